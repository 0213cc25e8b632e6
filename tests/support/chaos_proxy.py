"""A reverse proxy that makes trouble in front of a real API server: cut watches, refused calls, a wall of silence."""

import asyncio
import json
import random
import ssl
from base64 import b64decode
from collections import Counter
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import aiohttp
from aiohttp import web

HOP_BY_HOP = frozenset({"connection", "content-length", "host", "keep-alive", "transfer-encoding", "content-encoding"})


@dataclass
class Trouble:
    """What the proxy does to the calls that pass; all off: nothing."""

    unavailable: float = 0.0
    """Share of calls that are answered 503."""
    throttled: float = 0.0
    """Share of calls that are answered 429, with Retry-After: 1."""
    watch_seconds: float | None = None
    """Watches are cut, in the middle of whatever they say, after this time."""
    expired: bool = False
    """Watches are answered 410, whatever version they ask for."""
    partition: bool = False
    """Nothing passes: connections are dropped without a word."""


def _status(code, reason, message):
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "code": code,
        "reason": reason,
        "message": message,
    }


class Proxy:
    def __init__(self, plane):
        self.trouble = Trouble()
        self.lists = Counter()
        """Collections read, by plural; the few Events of one object are not one."""
        self.writes = Counter()
        self._server = plane.server
        settings = json.loads(plane.kubeconfig.read_text())["clusters"][0]["cluster"]
        self._tls = ssl.create_default_context(cadata=b64decode(settings["certificate-authority-data"]).decode())
        self._open = set()
        self._session = None

    async def handle(self, request):
        task = asyncio.current_task()
        self._open.add(task)
        try:
            return self._refusal(request) or await self._pass(request)
        finally:
            self._open.discard(task)

    def cut(self):
        """End what is open, as a partition does."""
        for task in tuple(self._open):
            task.cancel()

    def _refusal(self, request):
        if self.trouble.partition:
            request.transport.abort()
            raise asyncio.CancelledError
        watching = "watch" in request.query
        if watching and self.trouble.expired:
            return web.json_response(_status(410, "Expired", "too old resource version"), status=410)
        if random.random() < self.trouble.throttled:
            body = _status(429, "TooManyRequests", "slow down")
            return web.json_response(body, status=429, headers={"Retry-After": "1"})
        if random.random() < self.trouble.unavailable:
            return web.json_response(_status(503, "ServiceUnavailable", "not now"), status=503)
        return None

    async def _pass(self, request):
        watching = "watch" in request.query
        self._count(request, watching)
        headers = {key: value for key, value in request.headers.items() if key.lower() not in HOP_BY_HOP}
        url = f"{self._server}{request.raw_path}"
        body = await request.read()
        async with self._session.request(request.method, url, data=body, headers=headers) as answer:
            kept = {key: value for key, value in answer.headers.items() if key.lower() not in HOP_BY_HOP}
            response = web.StreamResponse(status=answer.status, headers=kept)
            await response.prepare(request)
            with suppress(TimeoutError):
                async with asyncio.timeout(self.trouble.watch_seconds if watching else None):
                    async for chunk in answer.content.iter_any():
                        await response.write(chunk)
                await response.write_eof()
                return response
            request.transport.abort()
            return response

    def _count(self, request, watching):
        plural = request.path.rstrip("/").rsplit("/", 1)[-1]
        if request.method != "GET":
            self.writes[plural] += 1
        elif not watching and "limit" in request.query and "involvedObject" not in request.query_string:
            self.lists[plural] += "continue" not in request.query

    @asynccontextmanager
    async def serving(self, folder, plane):
        """Serve on loopback; return the kubeconfig that uses this proxy."""
        app = web.Application(client_max_size=2**24)
        app.router.add_route("*", "/{path:.*}", self.handle)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=self._tls, limit=0), timeout=aiohttp.ClientTimeout(total=None)
        )
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        settings = json.loads(plane.kubeconfig.read_text())
        port = runner.addresses[0][1]
        settings["clusters"][0]["cluster"] = {"server": f"http://127.0.0.1:{port}"}
        kubeconfig = folder / "through-trouble"
        kubeconfig.write_text(json.dumps(settings))
        try:
            yield str(kubeconfig)
        finally:
            self.cut()
            await runner.cleanup()
            await self._session.connector.close(abort_ssl=True)  # nothing of it is left to the end of the loop
            await self._session.close()
