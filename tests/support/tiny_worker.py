"""A worker that starts in no time: what the node tests capture when the model does not matter.

It is handed to ``python3 -c`` in the demo worker's image, which has Python and the SDK.
"""

import http.server
import json
import os
import secrets
import sys
import threading

import snapshot_sdk

TOKEN = secrets.token_hex(16)
BLOCK = secrets.token_bytes(int(os.environ.get("BLOCK_MIB", "8")) << 20)


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers with what only this process can know."""

    def do_GET(self) -> None:
        """Answer every path."""
        ours = ("DYN_SNAPSHOT_", "DYN_CHECKPOINT_", "SNAPSHOT_CONTROL_DIR")
        fresh = [name for name in os.environ if name.startswith(ours)]
        body = json.dumps({"token": TOKEN, "pid": os.getpid(), "size": len(BLOCK), "managed": fresh}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Probes would fill the log."""


server = http.server.ThreadingHTTPServer(("", 8000), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
sys.stdout.write(f"ready, token {TOKEN}\n")
sys.stdout.flush()
if "--no-sdk" not in sys.argv:
    snapshot_sdk.quiesce()
threading.Event().wait()
