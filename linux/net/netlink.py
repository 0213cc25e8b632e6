"""Questions about sockets to the kernel, by netlink's sock_diag(7)."""

import socket
import struct
from collections.abc import Iterator
from typing import Final

_NETLINK_SOCK_DIAG: Final = 4
_BY_FAMILY: Final = 20
_REQUEST, _ACK, _DUMP = 0x1, 0x4, 0x300
_ERROR, _DONE = 2, 3
_HEADER: Final = struct.Struct("=IHHII")
"""length, kind, flags, sequence number, port."""
_SECONDS: Final = 1.0
_BUFFER: Final = 1 << 16


def open_sock_diag() -> socket.socket:
    """Open a socket for questions about the calling thread's network namespace."""
    netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG)
    netlink.settimeout(_SECONDS)
    return netlink


def answers(netlink: socket.socket, question: bytes) -> Iterator[bytes]:
    """Yield what the kernel answers to a question about all sockets of a family.

    Raises:
        OSError: it cannot say.
    """
    netlink.send(_message(_BY_FAMILY, _DUMP, question))
    while True:
        answer, at = netlink.recv(_BUFFER), 0
        while at < len(answer):
            length, kind, *_ = _HEADER.unpack_from(answer, at)
            if kind == _DONE:
                return
            if kind == _ERROR:
                raise _error(answer[at:])
            yield answer[at + _HEADER.size : at + length]
            at += (length + 3) & ~3


def order(netlink: socket.socket, kind: int, body: bytes) -> bool:
    """Have the kernel do something, and say whether it did."""
    netlink.send(_message(kind, _ACK, body))
    return _error(netlink.recv(_BUFFER)).errno == 0


def _message(kind: int, flags: int, body: bytes) -> bytes:
    return _HEADER.pack(_HEADER.size + len(body), kind, _REQUEST | flags, 1, 0) + body


def _error(answer: bytes) -> OSError:
    number: int = -struct.unpack_from("=i", answer, _HEADER.size)[0]
    return OSError(number, "sock_diag")
