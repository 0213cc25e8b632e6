"""``python3 -m dynamo.vllm``: takes the engine's options, loads nothing, is captured and restored like the engine."""

import snapshot_sdk
from dynamo.serve import TOKEN, start


def main() -> None:
    """Run until SIGTERM."""
    stop = start()
    print(f"ready, token {TOKEN}", flush=True)  # noqa: T201 - the worker's log
    snapshot_sdk.quiesce()
    stop.wait()


if __name__ == "__main__":
    main()
