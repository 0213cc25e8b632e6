"""The short way of a request: the API server's plain POST is answered in the call that brings its last byte.

A third of the time of a request went into the general machinery of an HTTP server (docs/performance.md has the
figures). The API server needs none of it: it sends one whole POST with a length, waits for the answer, and sends the
next. So each connection begins here. The first byte that is not of that kind hands the connection, with all that was
not yet answered, to the general server for good: what is odd is judged there, by a parser made for it, and answers
cannot overtake each other.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from email.utils import formatdate
from http import HTTPStatus
from typing import Final, NamedTuple, Protocol

HEAD_LIMIT: Final = 8190
"""Bytes of request line and headers; the API server sends a few hundred."""
KNOWN_HEADS: Final = 1024
"""Heads remembered: of one API server they differ by little more than the length."""
_END: Final = b"\r\n\r\n"
_GENERAL: Final = frozenset({b"transfer-encoding", b"expect", b"upgrade", b"connection", b"content-encoding", b"te"})
"""Headers that change how a message is read or what follows it: never plain."""
_LENGTH_DIGITS: Final = 10
_PRINTABLE: Final = bytes(range(0x20, 0x7F))
"""All that is in a plain head, between its line ends: no bare CR or LF, nothing that parsers disagree about."""


class Reply(NamedTuple):
    """What is answered, whichever way the request came."""

    status: HTTPStatus
    content_type: str
    body: bytes


class Desk(Protocol):
    """Who knows the answers."""

    path: str
    body_limit: int

    @property
    def takes_plain(self) -> bool:
        """Whether requests may be answered here; not so while the server drains."""
        ...

    def reply(self, body: bytes) -> Reply:
        """Return the answer to a POST of this body; never raises."""
        ...


class HeaderCache:
    """Which heads are plain, remembered."""

    def __init__(self, path: str) -> None:
        self._path = path.encode()
        self._known: dict[bytes, int] = {}

    def length(self, head: bytes) -> int:
        """Length of the body that follows *head* (without its empty line); -1 where it is not plain."""
        known = self._known.get(head)
        if known is None:
            if len(self._known) >= KNOWN_HEADS:
                self._known.clear()
            known = self._known[head] = plain_length(head, self._path)
        return known


def plain_length(head: bytes, path: bytes) -> int:
    """Length of the body where *head* is that of a plain POST to *path*, with or without a query; else -1."""
    line, *headers = lines = head.split(b"\r\n")
    if b"".join(lines).translate(None, _PRINTABLE):
        return -1
    target = line.removeprefix(b"POST ").removesuffix(b" HTTP/1.1")
    if len(line) != len(target) + len(b"POST  HTTP/1.1") or target.partition(b"?")[0] != path or b" " in target:
        return -1
    fields: dict[bytes, bytes] = {}
    for header in headers:
        name, colon, value = header.partition(b":")
        name = name.lower()
        # No letters but a token's, nothing twice: a client that sends that is not the API server.
        if not colon or not name.replace(b"-", b"").isalnum() or name in fields:
            return -1
        fields[name] = value.strip(b" \t")
    length = fields.get(b"content-length", b"")
    if not length.isdigit() or len(length) > _LENGTH_DIGITS or b"host" not in fields or fields.keys() & _GENERAL:
        return -1
    return int(length)


class FastPath(asyncio.Protocol):
    """One connection; *general* is the protocol that takes over when a request is not plain."""

    def __init__(self, desk: Desk, heads: HeaderCache, general: asyncio.Protocol, date: Callable[[], bytes]) -> None:
        self._desk = desk
        self._heads = heads
        self._general = general
        self._date = date
        self._transport: asyncio.Transport | None = None
        self._waiting = bytearray()
        self._wanted = 0
        """Bytes that must be waiting before another look is worth it."""
        self._handed_over = False
        self._replies = 0
        self._replies_seen = -1
        """At the last look, where a request was arriving then; else -1."""

    @property
    def open(self) -> bool:
        """Whether the connection is there."""
        return self._transport is not None

    @property
    def busy(self) -> bool:
        """Whether a request has started to arrive and is not answered yet; the general server counts its own."""
        return bool(self._waiting)

    def close_if_stalled(self) -> bool:
        """Close the connection where the request that was arriving at the last such look is arriving still.

        Looks, not a clock for each request: a request that arrives pays nothing for it.
        """
        stalled = self.busy and self._replies_seen == self._replies
        self._replies_seen = self._replies if self.busy else -1
        if stalled and self._transport is not None:
            self._transport.abort()
        return stalled

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Register with the general server, which closes every connection in the end."""
        self._transport = transport  # type: ignore[assignment] # a stream's transport is both
        self._general.connection_made(transport)

    def connection_lost(self, error: Exception | None) -> None:
        """Forget everything."""
        self._waiting.clear()
        self._transport = None
        self._general.connection_lost(error)

    def pause_writing(self) -> None:
        """Hand a client that does not read its answers to the general server, which serves it at its own pace."""
        self._general.pause_writing()
        self._hand_over()

    def resume_writing(self) -> None:
        """See ``pause_writing``."""
        self._general.resume_writing()

    def eof_received(self) -> bool | None:
        """Leave unfinished what is waiting now."""
        self._hand_over()
        return self._general.eof_received()

    def data_received(self, data: bytes) -> None:
        """Answer what is whole, keep the rest."""
        if self._handed_over:
            self._general.data_received(data)
            return
        self._waiting += data
        while len(self._waiting) > self._wanted and self._step():
            pass

    def _step(self) -> bool:
        """Answer one request; False if it needs more bytes, or is not ours to answer."""
        waiting = self._waiting
        end = waiting.find(_END, 0, HEAD_LIMIT)
        if end < 0:
            if len(waiting) >= HEAD_LIMIT or not self._desk.takes_plain:
                self._hand_over()
            return False
        length = self._heads.length(bytes(waiting[:end]))
        if length < 0 or length > self._desk.body_limit or not self._desk.takes_plain:
            self._hand_over()
            return False
        start = end + len(_END)
        whole = start + length
        if len(waiting) < whole:
            self._wanted = whole - 1
            return False
        body = bytes(waiting[start:whole])
        del waiting[:whole]
        self._wanted = 0
        self._write(self._desk.reply(body))
        return True

    def _write(self, reply: Reply) -> None:
        self._replies += 1
        if self._transport is not None:
            head = b"HTTP/1.1 %d %b\r\nContent-Type: %b\r\nContent-Length: %d\r\nDate: %b\r\n\r\n" % (
                reply.status,
                reply.status.phrase.encode(),
                reply.content_type.encode(),
                len(reply.body),
                self._date(),
            )
            self._transport.write(head + reply.body)

    def _hand_over(self) -> None:
        if not self._handed_over:
            self._handed_over = True
            rest = bytes(self._waiting)
            self._waiting.clear()
            if rest:
                self._general.data_received(rest)


class DateHeader:
    """The Date header's value, made once a second."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._second = -1
        self._value = b""

    def __call__(self) -> bytes:
        """Return, for example, ``Sat, 21 Nov 2026 05:00:00 GMT``."""
        second = int(self._clock())
        if second != self._second:
            self._second = second
            self._value = formatdate(second, usegmt=True).encode()
        return self._value
