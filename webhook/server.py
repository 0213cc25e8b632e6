"""The HTTPS edge: one path, one method, bytes in and bytes out.

A plain request takes the short way of ``webhook.http_fast_path``; whatever else comes is judged by aiohttp's low-level
server. Both ask the same request handler, so an answer does not depend on the way.
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

from contract.api.volume_claims import Claims, unknown
from contract.config.values import Values
from webhook.candidate import Lookup
from webhook.http_fast_path import DateHeader, FastPath, HeaderCache, Reply
from webhook.metrics import Metrics
from webhook.review import BadReviewError, answer

PATH: Final = "/mutate-core-v1-pod-checkpoint-restore"
PORT: Final = 10250
"""A port that the control plane of private clusters may usually reach on nodes: no firewall rule to add."""

BODY_LIMIT: Final = 8 * 2**20
"""Bytes of a review that are read, 413 beyond.

The API server takes objects of 3 MiB at most. As JSON with defaults and managed fields, which repeat each key once,
one can double, and the review adds who asks (groups and extra fields, far below a MiB): 7 MiB, rounded up.
"""
DRAIN_SECONDS: Final = 5.0
"""How long a stopping server goes on answering: kube-proxy needs a moment to forget its endpoint."""
CLOSE_SECONDS: Final = 3.0
"""How long requests that are being answered may take to end; the API server waits two seconds for them."""
KEEPALIVE_SECONDS: Final = 3630.0
"""Longer than the API server keeps an idle connection, so that it never writes to one that we just closed."""

REQUEST_SECONDS: Final = 35.0
"""How long a request may take to arrive: the API server gives up a call after its ``timeoutSeconds``, 30 at most.

Without an end, some dozens of clients that stop in the middle of the largest body would fill the webhook's memory.
"""

_JSON: Final = "application/json"
_TEXT: Final = "text/plain"
logger = logging.getLogger(__name__)


@dataclass
class Edge:
    """Answers requests; ``draining`` asks clients to connect again, which leads them to another replica."""

    lookup: Lookup
    values: Values
    metrics: Metrics
    claims: Claims = unknown
    draining: bool = False
    listening: bool = False

    path: str = PATH
    body_limit: int = BODY_LIMIT

    @property
    def takes_plain(self) -> bool:
        """Only the general server can ask a client to close its connection."""
        return not self.draining

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request that is not plain, whatever it is."""
        self.metrics.general += 1
        try:
            reply = await self._judge(request)
        finally:
            self.metrics.general -= 1
        response = web.Response(status=reply.status, body=reply.body, content_type=reply.content_type)
        if self.draining or reply.status == HTTPStatus.REQUEST_TIMEOUT:
            response.force_close()
        return response

    async def _judge(self, request: web.BaseRequest) -> Reply:
        if request.raw_path.partition("?")[0] != PATH:
            return _refusal(HTTPStatus.NOT_FOUND, f"only {PATH} is served here")
        if request.method != "POST":
            return _refusal(HTTPStatus.METHOD_NOT_ALLOWED, f"{PATH} takes POST only")
        try:
            async with asyncio.timeout(REQUEST_SECONDS):
                body = await request.read()
            return self.reply(body)
        except TimeoutError:
            self.metrics.refusals["too-slow"].inc()
            return _refusal(HTTPStatus.REQUEST_TIMEOUT, f"the review did not arrive within {REQUEST_SECONDS:.0f} s")
        except web.HTTPRequestEntityTooLarge:
            self.metrics.refusals["too-large"].inc()
            return _refusal(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                f"the review is larger than {BODY_LIMIT} bytes, more than the API server sends",
            )

    def reply(self, body: bytes) -> Reply:
        """Return the answer to a posted body."""
        started = time.perf_counter()
        try:
            result = answer(body, self.lookup, self.values, self.claims)
        except BadReviewError as error:
            self.metrics.refusals["bad-request"].inc()
            return _refusal(HTTPStatus.BAD_REQUEST, str(error))
        except Exception:
            # A bug must cost a cold start, not a pod: the failure policy decides, and the log has the trace.
            logger.exception("no answer to a review")
            self.metrics.refusals["error"].inc()
            return _refusal(HTTPStatus.INTERNAL_SERVER_ERROR, "internal error; see the webhook's log")
        self.metrics.decisions[result.label].inc()
        self.metrics.seconds.observe(time.perf_counter() - started)
        return Reply(HTTPStatus.OK, _JSON, result.body)

    async def close_stalled(self) -> None:
        """Close, from time to time, the connections whose request does not arrive."""
        while True:
            await asyncio.sleep(REQUEST_SECONDS)
            for lane in list(self.metrics.lanes):
                if lane.close_if_stalled():
                    self.metrics.refusals["too-slow"].inc()


def _refusal(status: HTTPStatus, message: str) -> Reply:
    return Reply(status, _TEXT, f"{message}\n".encode())


async def serve(edge: Edge, context: ssl.SSLContext, *, host: str | None = None, port: int = PORT) -> None:
    """Listen until cancelled, then drain: answer a while longer, end what is being answered, close.

    Raises:
        OSError: the port is taken.
    """
    server = web.Server(edge.handle, request_factory=_request, keepalive_timeout=KEEPALIVE_SECONDS, access_log=None)
    heads, date = HeaderCache(PATH), DateHeader()

    def connect() -> FastPath:
        lane = FastPath(edge, heads, server(), date)
        edge.metrics.lanes.add(lane)
        return lane

    listener = await asyncio.get_running_loop().create_server(connect, host, port, ssl=context, backlog=1024)
    # After what may fail: nothing else would end it.
    sweep = asyncio.create_task(edge.close_stalled())
    try:
        edge.listening = True
        logger.info("listening on port %d", port)
        await asyncio.Event().wait()
    finally:
        edge.draining = True
        sweep.cancel()
        await asyncio.sleep(DRAIN_SECONDS)
        edge.listening = False
        listener.close()
        server.pre_shutdown()
        await server.shutdown(CLOSE_SECONDS)


def _request(message: Any, payload: Any, protocol: Any, writer: Any, task: Any) -> web.BaseRequest:  # noqa: ANN401 - passed on as they come
    loop = asyncio.get_running_loop()
    return web.BaseRequest(message, payload, protocol, writer, task, loop, client_max_size=BODY_LIMIT)
