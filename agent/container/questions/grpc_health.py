"""Asks a gRPC health service whether it serves, as kubelet does: one call of ``grpc.health.v1.Health/Check``.

HTTP/2 is h2's. It opens no socket: the caller brings a connection from within the worker's network namespace.
docs/decisions/0046-probes-in-the-proof.md says why. Loads h2, so it is imported only when a worker has such a probe.
"""

import socket
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
)
from h2.exceptions import H2Error
from h2.settings import SettingCodes, Settings

from agent import protobuf

CHECK: Final = "/grpc.health.v1.Health/Check"
_SERVICE: Final = 1
"""Field of HealthCheckRequest."""
_STATUS: Final = 1
"""Field of HealthCheckResponse."""
_SERVING: Final = 1
_STATUSES: Final = {0: "UNKNOWN", 2: "NOT_SERVING", 3: "SERVICE_UNKNOWN"}
_CODES: Final = {
    "5": "its health service knows no such service",
    "12": "it has no health service (grpc.health.v1.Health)",
}
"""gRPC status -> what it means here."""
_FRAME: Final = struct.Struct("!BL")
"""Before each message: whether it is compressed, and its length."""
_SHOWN: Final = 200
"""Characters of what a worker says."""
_NOTHING_UNASKED: Final = {SettingCodes.ENABLE_PUSH: 0, SettingCodes.MAX_HEADER_LIST_SIZE: 1 << 16}
_CHUNK: Final = 1 << 16


class HealthError(Exception):
    """The worker does not say that it serves; the message says what it does."""


@dataclass
class _Reply:
    """What has come of a reply. h2 bounds it: headers by its own limit, the body by a window that is never reopened."""

    headers: dict[str, str] = field(default_factory=dict)
    """With the trailers."""
    body: bytes = b""
    is_whole: bool = False


def check(connection: socket.socket, authority: str, service: str, seconds: float) -> None:
    """Ask once; the caller hangs up when it takes too long.

    Args:
        connection: to the worker, open and unused.
        authority: host and port, as the worker is to read them.
        service: its name; empty: the server as a whole.
        seconds: how long the worker may take, which it is sent too.

    Raises:
        HealthError: it does not say that it serves.
        OSError: the connection fails.
    """
    try:
        reply = _call(connection, _headers(authority, seconds), request(service))
    except (H2Error, UnicodeError) as error:
        raise HealthError(f"what it sends is no HTTP/2: {type(error).__name__}: {_shown(str(error))}") from error
    if words := verdict(reply.headers, reply.body):
        raise HealthError(words)


def request(service: str) -> bytes:
    """Return a HealthCheckRequest with its frame."""
    fields = [protobuf.Field(_SERVICE, protobuf.BYTES, service.encode())] if service else []
    message = protobuf.encode(fields)
    return _FRAME.pack(0, len(message)) + message


def verdict(headers: Mapping[str, str], body: bytes) -> str | None:
    """Say what is wrong with a whole reply; None: the worker serves.

    Args:
        headers: with the trailers.
        body: all of it.
    """
    if headers.get(":status") != "200":
        return f"HTTP status {_shown(headers.get(':status', ''))}"
    if (code := headers.get("grpc-status")) != "0":
        return _failure(code, headers.get("grpc-message", ""))
    if len(body) < _FRAME.size or len(body) != _FRAME.size + _FRAME.unpack_from(body)[1]:
        return "its reply is not one message"
    if body[0]:
        return "its reply is compressed, which was not offered"
    try:
        status = protobuf.number(protobuf.parse(body[_FRAME.size :]), _STATUS)
    except ValueError as error:
        return f"its reply is no health response: {error}"
    return None if status == _SERVING else f"its health service says {_STATUSES.get(status, f'status {status}')}"


def _failure(code: str | None, message: str) -> str:
    if code is None:
        return "its reply has no grpc-status"
    if code in _CODES:
        return _CODES[code]
    said = _shown(unquote(message))
    return f"it answers with gRPC status {_shown(code)}" + (f": {said}" if said else "")


def _shown(text: str) -> str:
    """Return what a worker says as it may be shown: one line, of bounded length."""
    return " ".join("".join(c if c.isprintable() else " " for c in text[:_SHOWN]).split())


def _headers(authority: str, seconds: float) -> list[tuple[str, str]]:
    return [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", CHECK),
        (":authority", authority),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
        ("user-agent", "kube-probe"),
        ("grpc-timeout", f"{max(1, round(seconds * 1000))}m"),
    ]


def _call(connection: socket.socket, headers: list[tuple[str, str]], message: bytes) -> _Reply:
    speaker, reply = H2Connection(H2Configuration(header_encoding="utf-8")), _Reply()
    speaker.local_settings = Settings(client=True, initial_values=_NOTHING_UNASKED)
    speaker.initiate_connection()
    stream = speaker.get_next_available_stream_id()
    speaker.send_headers(stream, headers)
    speaker.send_data(stream, message, end_stream=True)
    connection.sendall(speaker.data_to_send())
    data = connection.recv(_CHUNK)
    if data.startswith(b"HTTP/1"):
        raise HealthError("it speaks HTTP/1, and gRPC needs HTTP/2")
    while not reply.is_whole:
        if not data:
            raise HealthError("the connection ends without an answer")
        for event in speaker.receive_data(data):
            _take(event, reply)
        if not reply.is_whole:  # what it is owed for its settings and pings
            connection.sendall(speaker.data_to_send())
            data = connection.recv(_CHUNK)
    return reply


def _take(event: Event, reply: _Reply) -> None:
    match event:
        case ResponseReceived(headers=headers) | TrailersReceived(headers=headers):
            reply.headers |= {str(name): str(value) for name, value in headers}
        case DataReceived(data=data):
            reply.body += data
        case StreamEnded():
            reply.is_whole = True
        case StreamReset(error_code=code):
            raise HealthError(f"it resets the call (HTTP/2 error {code})")
        case ConnectionTerminated(error_code=code):
            raise HealthError(f"it ends the connection (HTTP/2 error {code})")
        case _:
            pass
