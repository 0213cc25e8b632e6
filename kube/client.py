"""The real ``Kube``: JSON over a pooled HTTPS session, with the login of ``kube.login``.

There is no client-side rate limit: the API server has priority and fairness, and answers 429 to slow clients down.
Nothing is retried here but one refresh of rejected credentials; who calls knows best what a retry means.
"""

import asyncio
import random
import socket
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final, Self

import aiohttp

from kube import codec
from kube.api import Listing, Object, PatchKind, Propagation, Transform, WatchEvent
from kube.errors import (
    GoneError,
    KubeError,
    ServerUnavailableError,
    UnauthorizedError,
    from_answer,
    from_status,
)
from kube.login import Login, login
from kube.resources import PODS, Resource

PAGE: Final = 500
"""Objects a page of a list, as kubectl and client-go ask for."""
REQUEST_TIMEOUT: Final = 60.0
"""Seconds for one call; the API server itself gives up after 60."""
WATCH_SECONDS: Final = 240
"""Seconds after which the server ends a watch; stretched at random up to double so that not all end together."""
CONNECTIONS: Final = 256
"""Pool size: a controller's workers and its watches, with room to spare."""
READ_BUFFER: Final = 2**21
"""Bytes; a line of a watch may be twice this, and an object of etcd's 1.5 MiB limit grows a little as JSON."""
RELOGIN_SECONDS: Final = 10.0
"""At most one reload of rejected credentials in this time."""
HTTP_OK_BELOW: Final = 300
REFUSAL_BYTES: Final = 512 * 1024
"""Bytes read of an error's body; Status objects are far smaller, a proxy's page may be anything."""
KEEPALIVE: Final = (
    (socket.IPPROTO_TCP, "TCP_KEEPIDLE", 30),
    (socket.IPPROTO_TCP, "TCP_KEEPINTVL", 10),
    (socket.IPPROTO_TCP, "TCP_KEEPCNT", 3),
)
"""A silent watch on a dead connection is noticed after a minute, not after the kernel's two hours."""


class Client:
    """A connection pool to one API server; use it as an async context manager."""

    def __init__(self, found: Login, *, user_agent: str = "dynamo-snapshot") -> None:
        self._login = found
        self._relogin_at = 0.0
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=CONNECTIONS, ssl=found.ssl_context(), socket_factory=_keepalive_socket
            ),
            timeout=aiohttp.ClientTimeout(total=REQUEST_TIMEOUT, sock_connect=10),
            headers={"Accept": "application/json", "User-Agent": user_agent},
            read_bufsize=READ_BUFFER,
            trust_env=True,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()
        # A TLS connection that was let go is closed in the loop's next turn, which may be its last.
        await asyncio.sleep(0)

    @property
    def namespace(self) -> str:
        """The namespace of the kubeconfig context, or the pod's own."""
        return self._login.namespace

    async def list(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        labels: str = "",
        fields: str = "",
        keep: Transform | None = None,
    ) -> Listing:
        """See ``kube.api.Kube``."""
        query = _selectors(labels, fields) | {"limit": str(PAGE)}
        items: list[Object] = []
        while True:
            try:
                page = await self._call("GET", resource.path(namespace), query)
            except GoneError:
                # The continue token outlived the server's history: once more, in one piece.
                if "continue" not in query:
                    raise
                items, query = [], _selectors(labels, fields)
                continue
            items += _items(page, resource, keep)
            metadata = page.get("metadata", {})
            if not metadata.get("continue"):
                break
            query["continue"] = metadata["continue"]
        return Listing(tuple(items), str(metadata.get("resourceVersion", "")))

    async def watch(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        resource_version: str,
        labels: str = "",
        fields: str = "",
    ) -> AsyncGenerator[WatchEvent, None]:
        """See ``kube.api.Kube``."""
        seconds = int(WATCH_SECONDS * random.uniform(1, 2))  # noqa: S311 - spreads load, guards nothing
        query = _selectors(labels, fields) | {
            "watch": "1",
            "allowWatchBookmarks": "true",
            "resourceVersion": resource_version,
            "timeoutSeconds": str(seconds),
        }
        # The server ends the stream by itself; the margin only catches one that no longer can.
        timeout = aiohttp.ClientTimeout(total=seconds + 30, sock_connect=10)
        async with self._open("GET", resource.path(namespace), query, timeout=timeout) as answer:
            async for line in answer.content:
                event = codec.decode(line)
                if event["type"] == "ERROR":
                    raise from_status(event["object"])
                yield WatchEvent(event["type"], event["object"])

    async def get(self, resource: Resource, name: str, namespace: str | None = None) -> Object:
        """See ``kube.api.Kube``."""
        return await self._call("GET", resource.path(namespace, name))

    async def create(
        self, resource: Resource, body: Object, namespace: str | None = None, *, dry_run: bool = False
    ) -> Object:
        """See ``kube.api.Kube``."""
        return await self._call("POST", resource.path(namespace), _dry(dry_run), body)

    async def patch(  # noqa: PLR0913 - the API's own knobs, all but three optional keywords
        self,
        resource: Resource,
        name: str,
        body: Any,  # noqa: ANN401 - see kube.api
        namespace: str | None = None,
        *,
        kind: PatchKind = PatchKind.MERGE,
        subresource: str = "",
        field_manager: str = "",
        force: bool = False,
        dry_run: bool = False,
    ) -> Object:
        """See ``kube.api.Kube``."""
        query = _dry(dry_run)
        if field_manager:
            query["fieldManager"] = field_manager
        if force:
            query["force"] = "true"
        return await self._call("PATCH", resource.path(namespace, name, subresource), query, body, kind)

    async def delete(
        self,
        resource: Resource,
        name: str,
        namespace: str | None = None,
        *,
        propagation: Propagation = Propagation.BACKGROUND,
        uid: str = "",
        resource_version: str = "",
    ) -> None:
        """See ``kube.api.Kube``."""
        preconditions = {key: value for key, value in (("uid", uid), ("resourceVersion", resource_version)) if value}
        options: Object = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": propagation.value}
        if preconditions:
            options["preconditions"] = preconditions
        await self._call("DELETE", resource.path(namespace, name), body=options)

    async def log_head(self, pod: str, namespace: str, container: str, limit: int) -> str:
        """Return the first *limit* bytes that *container* wrote; not part of ``KubeClient``, only people ask for it."""
        query = {"container": container, "limitBytes": str(limit)}
        async with self._open("GET", PODS.path(namespace, pod, "log"), query) as answer:
            return (await answer.read()).decode(errors="replace")

    async def _call(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Any = None,  # noqa: ANN401 - any JSON value
        content_type: str = "application/json",
    ) -> Object:
        data = None if body is None else codec.encode(body)
        try:
            return await self._send(method, path, query, data, content_type)
        except UnauthorizedError:
            if not await self._relogin():
                raise
            return await self._send(method, path, query, data, content_type)

    async def _send(
        self, method: str, path: str, query: Mapping[str, str] | None, data: bytes | None, content_type: str
    ) -> Object:
        async with self._open(method, path, query, data, content_type) as answer:
            result = codec.decode(await answer.read())
            if not isinstance(result, dict):
                raise ServerUnavailableError(f"{method} {path}: the answer is not a JSON object")
            return result

    @asynccontextmanager
    async def _open(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        data: bytes | None = None,
        content_type: str = "application/json",
        timeout: aiohttp.ClientTimeout | None = None,  # noqa: ASYNC109 - aiohttp's own, it covers connecting too
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        headers = await self._login.headers()
        if data is not None:
            headers["Content-Type"] = content_type
        try:
            async with self._session.request(
                method,
                self._login.server + path,
                params=query,
                data=data,
                headers=headers,
                timeout=timeout if timeout is not None else self._session.timeout,
                proxy=self._login.configuration.proxy,
                server_hostname=self._login.configuration.tls_server_name,
            ) as answer:
                if answer.status >= HTTP_OK_BELOW:
                    raise await _refusal(answer)
                yield answer
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise ServerUnavailableError(f"{method} {path}: {type(error).__name__}: {error}") from error

    async def _relogin(self) -> bool:
        """Read the credentials again, unless that was just done."""
        now = time.monotonic()
        if now < self._relogin_at:
            return False
        self._relogin_at = now + RELOGIN_SECONDS
        self._login = await self._login.again()
        return True


async def connect(
    kubeconfig: str | None = None, context: str | None = None, *, user_agent: str = "dynamo-snapshot"
) -> Client:
    """Connect to the cluster of *kubeconfig* and *context*, of the pod's service account, or of the default file.

    Raises:
        ConfigError: no usable configuration.
    """
    return Client(await login(kubeconfig, context), user_agent=user_agent)


def _items(page: Object, resource: Resource, keep: Transform | None) -> list[Object]:
    found: list[Object] = page.get("items") or []
    for item in found:
        item.setdefault("apiVersion", resource.api_version)
        item.setdefault("kind", resource.kind)
    return found if keep is None else [keep(item) for item in found]


def _selectors(labels: str, fields: str) -> dict[str, str]:
    return {key: value for key, value in (("labelSelector", labels), ("fieldSelector", fields)) if value}


def _dry(dry_run: bool) -> dict[str, str]:  # noqa: FBT001 - the one thing it turns into a query
    return {"dryRun": "All"} if dry_run else {}


async def _refusal(answer: aiohttp.ClientResponse) -> KubeError:
    body = await answer.content.read(REFUSAL_BYTES)
    return from_answer(answer.status, body, answer.headers.get("Retry-After"))


def _keepalive_socket(address: aiohttp.AddrInfoType) -> socket.socket:
    family, kind, protocol, _, _ = address
    result = socket.socket(family=family, type=kind, proto=protocol)
    result.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for level, option, value in KEEPALIVE:
        if hasattr(socket, option):
            result.setsockopt(level, getattr(socket, option), value)
    return result
