"""``python -m worker``: listen, load, warm up, let a snapshot be taken, serve."""

import os
import signal
import threading

import snapshot_sdk
from worker.encoder import Encoder, model_folder
from worker.library import Library, paragraphs
from worker.server import Server


def main() -> None:
    """Run until SIGTERM."""
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    server = Server(int(os.environ.get("PORT", "8000")))
    threading.Thread(target=server.serve_forever, name="http", daemon=True).start()
    print("loading model", flush=True)
    server.ready(Library(Encoder(model_folder()), paragraphs()))
    print(f"ready in {server.ready_after:.1f} s, token {server.token}", flush=True)
    snapshot_sdk.quiesce()  # waits here while a snapshot is taken; a restored worker goes on from here
    stop.wait()
    server.shutdown()


if __name__ == "__main__":
    main()
