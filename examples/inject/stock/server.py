"""A worker of somebody else's: it knows nothing of snapshots, takes a while to start, then serves HTTP on port 8000.

The token that it answers is made at its start and kept in memory only, so it tells one process from another.
"""

import http.server
import json
import os
import secrets
import sys
import time

TOKEN = secrets.token_hex(16)


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers with what only this process can know."""

    def do_GET(self) -> None:
        """Answer every path."""
        body = json.dumps({"token": TOKEN, "pid": os.getpid()}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Probes would fill the log."""


if __name__ == "__main__":
    time.sleep(float(os.environ.get("WARM_UP_SECONDS", "0")))
    sys.stdout.write(f"warm as {sys.argv[1] if len(sys.argv) > 1 else 'a worker'}, token {TOKEN}\n")
    sys.stdout.flush()
    http.server.ThreadingHTTPServer(("", 8000), Handler).serve_forever()
