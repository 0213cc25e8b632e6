"""What both stand-ins are: an HTTP server that answers with what only its own process can know."""

import http.server
import json
import os
import secrets
import signal
import sys
import threading

TOKEN = secrets.token_hex(16)  # exists in this process' memory only: whoever answers with it is this process


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers every path alike."""

    def do_GET(self) -> None:
        """Say who answers."""
        body = json.dumps({"token": TOKEN, "pid": os.getpid(), "arguments": sys.argv[1:]}).encode()
        self.send_response(http.HTTPStatus.OK)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Say nothing: probes would fill the log."""


def start(port: int = 8000) -> threading.Event:
    """Serve from now on; the event is set by SIGTERM."""
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    server = http.server.ThreadingHTTPServer(("", port), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return stop
