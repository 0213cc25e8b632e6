"""The health port: ``/healthz`` for liveness, ``/readyz`` for readiness, ``/metrics`` for Prometheus.

A *registry* also gets the figures that every process has.

Liveness only says that the event loop turns. Readiness is the truth about each named part: a check answers None when
its part works and a sentence when it does not, and ``/readyz`` shows the sentences.
"""

import asyncio
import socket
from collections.abc import Callable, Mapping
from typing import Final

from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest

from daemon.figures import Figures

Check = Callable[[], str | None]
METRICS_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


class HealthServer:
    """Serves plain HTTP on *port* of all interfaces; port 0 takes a free one."""

    def __init__(self, port: int, checks: Mapping[str, Check], registry: CollectorRegistry | None = None) -> None:
        self._checks = dict(checks)
        self._registry = registry
        self._figures = Figures(registry) if registry else None
        self._asked_port = port
        self.port = 0
        self.listening = asyncio.Event()

    async def run(self) -> None:
        """Serve until cancelled.

        Raises:
            OSError: the port is taken.
        """
        app = web.Application()
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", self._metrics)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        try:
            listener = _listen(self._asked_port)
            await web.SockSite(runner, listener).start()
            self.port = listener.getsockname()[1]
            self.listening.set()
            await (self._figures.follow() if self._figures else asyncio.Event().wait())
        finally:
            await runner.cleanup()

    async def _healthz(self, _: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def _readyz(self, _: web.Request) -> web.Response:
        problems = {name: problem for name, check in self._checks.items() if (problem := check()) is not None}
        status = 503 if problems else 200
        return web.json_response({"status": "not ready" if problems else "ok", "problems": problems}, status=status)

    async def _metrics(self, _: web.Request) -> web.Response:
        if self._registry is None:
            raise web.HTTPNotFound
        return web.Response(body=generate_latest(self._registry), headers={"Content-Type": METRICS_TYPE})


def _listen(port: int) -> socket.socket:
    """Open one socket for both address families: kubelet probes whichever the pod has."""
    if socket.has_dualstack_ipv6():
        return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
    return socket.create_server(("", port))
