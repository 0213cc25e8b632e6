"""The HTTP face of the worker: GET /healthz and /info, POST /embed and /search."""

import json
import os
import secrets
import socket
import time
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Protocol

_MAX_BODY = 64 << 10  # a question is a paragraph, not a file
_MAX_HITS = 100


class Library(Protocol):
    """What is served."""

    def __len__(self) -> int: ...
    def embed(self, text: str) -> list[float]: ...  # noqa: D102
    def search(self, query: str, k: int) -> list[dict[str, str | float]]: ...  # noqa: D102
    def sha256(self) -> str: ...  # noqa: D102


class Server(ThreadingHTTPServer):
    """Listens from the first moment, and is ready once it has its library."""

    def __init__(self, port: int) -> None:
        super().__init__(("", port), Handler)
        self.token = secrets.token_hex(
            16
        )  # exists in this process' memory only: whoever answers with it is this process
        self.started_at = time.time()
        self.library: Library | None = None
        self.ready_after = 0.0

    def ready(self, library: Library) -> None:
        """Start to answer."""
        self.ready_after = time.time() - self.started_at
        self.library = library

    def info(self, library: Library) -> dict[str, Any]:
        """Who answers, and what it holds in memory."""
        return {
            "token": self.token,
            "pid": os.getpid(),
            "hostname": socket.gethostname(),
            "started_at": self.started_at,
            "ready_after_seconds": round(self.ready_after, 3),
            "index_size": len(library),
            "index_sha256": library.sha256(),
        }


class Handler(BaseHTTPRequestHandler):
    """One request."""

    server: Server
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Answer /healthz and /info."""
        library = self.server.library
        if library is None:
            self._answer(HTTPStatus.SERVICE_UNAVAILABLE, {"error": "loading"})
        elif self.path == "/healthz":
            self._answer(HTTPStatus.OK, {"status": "ready"})
        elif self.path == "/info":
            self._answer(HTTPStatus.OK, self.server.info(library))
        else:
            self._answer(HTTPStatus.NOT_FOUND, {"error": "GET /healthz or /info, POST /embed or /search"})

    def do_POST(self) -> None:
        """Answer /embed and /search."""
        if (library := self.server.library) is None:
            self._answer(HTTPStatus.SERVICE_UNAVAILABLE, {"error": "loading"})
            return
        try:
            self._answer(HTTPStatus.OK, self._result(library, self._body()))
        except (ValueError, KeyError, TypeError) as e:
            self.close_connection = True  # the body may not have been read
            self._answer(HTTPStatus.BAD_REQUEST, {"error": f"{type(e).__name__}: {e}"})

    def _result(self, library: Library, body: dict[str, Any]) -> dict[str, Any]:
        if self.path == "/embed":
            return {"vector": library.embed(str(body["text"]))}
        if self.path == "/search":
            return {"results": library.search(str(body["query"]), min(max(int(body.get("k", 3)), 1), _MAX_HITS))}
        raise ValueError(f"unknown path {self.path}; POST /embed or /search")

    def _body(self) -> dict[str, Any]:
        length = int(self.headers.get("Content-Length", 0))
        if not 0 < length <= _MAX_BODY:
            raise ValueError(f"the body must be JSON of 1 to {_MAX_BODY} bytes")
        body: dict[str, Any] = json.loads(self.rfile.read(length))
        return body

    def _answer(self, status: HTTPStatus, content: dict[str, Any]) -> None:
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Say nothing: probes would fill the log."""
