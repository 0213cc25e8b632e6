"""What the GPU workers share: HTTP on port 8000, and the one line of the SDK. Copied into the container beside them."""

import http.server
import json
import sys
import threading
from collections.abc import Callable


def serve(answer: Callable[[], object], quiesce: Callable[[], object] | None = None) -> None:
    """Answer each GET with what *answer* returns, one at a time; say that the worker is ready, and never return.

    No request is answered until *quiesce*, if it is given, has returned: what it takes down is up again.
    """
    import snapshot_sdk  # noqa: PLC0415 - only in a container

    lock = threading.Lock()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            with lock:
                body = json.dumps(answer()).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("", 8000), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdout.write("warm\n")
    sys.stdout.flush()
    if quiesce is None:
        snapshot_sdk.quiesce()
    else:
        with lock:
            quiesce()
    threading.Event().wait()
