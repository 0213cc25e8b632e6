"""The HTTPS edge: one path, one method, bytes in and bytes out.

It stands on aiohttp's low-level server, without application and router, because a request waits for every layer.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

from aiohttp import web

from contract.values import Values
from webhook.answer import BadReviewError, answer
from webhook.decide import Lookup
from webhook.metrics import Metrics

PATH: Final = "/mutate-core-v1-pod-checkpoint-restore"
PORT: Final = 10250
"""A port that the control plane of private clusters may usually reach on nodes: no firewall rule to add."""

BODY_LIMIT: Final = 8 * 2**20
"""Bytes of a review that are read, 413 beyond.

The API server takes objects of 3 MiB at most.  As JSON with defaults and managed fields, which repeat each key once,
one can double, and the review adds who asks (groups and extra fields, far below a MiB): 7 MiB, rounded up.
"""
DRAIN_SECONDS: Final = 5.0
"""How long a stopping server goes on answering: kube-proxy needs a moment to forget its endpoint."""
CLOSE_SECONDS: Final = 3.0
"""How long requests that are being answered may take to end; the API server waits two seconds for them."""
KEEPALIVE_SECONDS: Final = 3630.0
"""Longer than the API server keeps an idle connection, so that it never writes to one that we just closed."""

_HEADERS: Final = {"Content-Type": "application/json"}
logger = logging.getLogger(__name__)


@dataclass
class Edge:
    """Answers requests; ``draining`` asks clients to connect anew, which leads them to another replica."""

    lookup: Lookup
    values: Values
    metrics: Metrics
    draining: bool = False
    listening: bool = False

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """One request, whatever it is."""
        # The API server adds a query (?timeout=2s); its text is cut off, because a parsed URL costs more.
        if request.raw_path.partition("?")[0] != PATH:
            return self._refuse(HTTPStatus.NOT_FOUND, f"only {PATH} is served here")
        if request.method != "POST":
            return self._refuse(HTTPStatus.METHOD_NOT_ALLOWED, f"{PATH} takes POST only")
        try:
            body = await request.read()
        except web.HTTPRequestEntityTooLarge:
            self.metrics.refusals["too-large"].inc()
            return self._refuse(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                f"the review is larger than {BODY_LIMIT} bytes, more than the API server sends",
            )
        return self._answer(body)

    def _answer(self, body: bytes) -> web.Response:
        started = time.perf_counter()
        try:
            result = answer(body, self.lookup, self.values)
        except BadReviewError as error:
            self.metrics.refusals["bad-request"].inc()
            return self._refuse(HTTPStatus.BAD_REQUEST, str(error))
        except Exception:
            # A bug must cost a cold start, not a pod: the failure policy decides, and the log tells us.
            logger.exception("no answer to a review")
            self.metrics.refusals["error"].inc()
            return self._refuse(HTTPStatus.INTERNAL_SERVER_ERROR, "internal error; see the webhook's log")
        self.metrics.decisions[result.label].inc()
        self.metrics.seconds.observe(time.perf_counter() - started)
        return self._close_if_draining(web.Response(body=result.body, headers=_HEADERS))

    def _refuse(self, status: HTTPStatus, message: str) -> web.Response:
        return self._close_if_draining(web.Response(status=status, text=message + "\n"))

    def _close_if_draining(self, response: web.Response) -> web.Response:
        if self.draining:
            response.force_close()
        return response


async def serve(edge: Edge, context: ssl.SSLContext, *, host: str | None = None, port: int = PORT) -> None:
    """Listen until cancelled, then drain: answer a while longer, end what is being answered, close.

    Raises:
        OSError: the port is taken.
    """
    server = web.Server(edge.handle, request_factory=_request, keepalive_timeout=KEEPALIVE_SECONDS, access_log=None)
    runner = web.ServerRunner(server, shutdown_timeout=CLOSE_SECONDS)
    await runner.setup()
    try:
        await web.TCPSite(runner, host=host, port=port, ssl_context=context, backlog=1024).start()
        edge.listening = True
        logger.info("listening on port %d", port)
        await asyncio.Event().wait()
    finally:
        edge.draining = True
        await asyncio.sleep(DRAIN_SECONDS if edge.listening else 0)
        edge.listening = False
        await runner.cleanup()


def _request(message: Any, payload: Any, protocol: Any, writer: Any, task: Any) -> web.BaseRequest:  # noqa: ANN401 - passed on as they come
    loop = asyncio.get_running_loop()
    return web.BaseRequest(message, payload, protocol, writer, task, loop, client_max_size=BODY_LIMIT)
