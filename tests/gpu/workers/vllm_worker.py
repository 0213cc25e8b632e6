"""``vllm serve`` as a worker: starts it, waits until it serves and is warm, and says so with the SDK's one line.

``python vllm_worker.py FLAG...``: the flags of ``vllm serve``, which answers on port 8000 by itself.
"""

import http.client
import json
import subprocess
import sys
import time

PROMPT = list(range(3, 27))
POLL_SECONDS = 0.2
WARM_SECONDS = 120.0


def main(flags: list[str]) -> int:
    """Return the exit code of the server."""
    import snapshot_sdk  # noqa: PLC0415 - only in a container

    argv = [sys.executable, "-m", "vllm.entrypoints.cli.main", "serve", *flags, "--host", "127.0.0.1", "--port", "8000"]
    server = subprocess.Popen(argv)
    while not is_healthy():
        if server.poll() is not None:
            return server.returncode
        time.sleep(POLL_SECONDS)
    warm_up()
    sys.stdout.write("warm\n")
    sys.stdout.flush()
    snapshot_sdk.quiesce()
    return server.wait()


def is_healthy() -> bool:
    """Say whether the server answers."""
    try:
        return ask("GET", "/health") == http.HTTPStatus.OK
    except OSError:
        return False


def warm_up() -> None:
    """Let the engine compile what its first request compiles."""
    status = ask("POST", "/v1/completions", {"prompt": PROMPT, "max_tokens": 32, "temperature": 0, "ignore_eos": True})
    if status != http.HTTPStatus.OK:
        sys.exit(f"the first completion failed with {status}")


def ask(method: str, path: str, body: object = None) -> int:
    """Return the status of one request, on a connection of its own: none may be open at the capture."""
    connection = http.client.HTTPConnection("127.0.0.1", 8000, timeout=WARM_SECONDS)
    try:
        connection.request(method, path, json.dumps(body), {"Content-Type": "application/json", "Connection": "close"})
        answer = connection.getresponse()
        answer.read()
        return answer.status
    finally:
        connection.close()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
