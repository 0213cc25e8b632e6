"""TCP sockets of a network namespace, by netlink's sock_diag(7): those in TIME_WAIT are ended early.

A restored listener cannot bind its port in the namespace that its connections were closed in, unless the worker had set
SO_REUSEADDR. A kernel without CONFIG_INET_DIAG_DESTROY refuses; the port is then free after a minute.
"""

import socket
import struct
from collections.abc import Iterator
from contextlib import suppress
from typing import Final

_NETLINK_SOCK_DIAG: Final = 4
_SOCK_DIAG_BY_FAMILY, _SOCK_DESTROY = 20, 21
_REQUEST, _ACK, _DUMP = 0x1, 0x4, 0x300
_DONE, _ERROR = 3, 2
_TIME_WAIT: Final = 6
_HEADER: Final = struct.Struct("=IHHII")
_REQUEST_V2: Final = struct.Struct("=BBBxI48s")
"""family, protocol, extensions, states, socket id."""
_ID_OFFSET: Final = 4
_ID_BYTES: Final = 48
_BUFFER: Final = 1 << 16


def end_time_wait() -> int:
    """End all TCP sockets in TIME_WAIT of the calling thread's network namespace; return how many were ended."""
    ended = 0
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as netlink:
        netlink.settimeout(1.0)
        for family in (socket.AF_INET, socket.AF_INET6):
            with suppress(OSError):
                for identity in list(_waiting(netlink, family)):
                    ended += _end(netlink, family, identity)
    return ended


def _message(kind: int, flags: int, family: int, identity: bytes) -> bytes:
    body = _REQUEST_V2.pack(family, socket.IPPROTO_TCP, 0, 1 << _TIME_WAIT, identity)
    return _HEADER.pack(_HEADER.size + len(body), kind, flags, 1, 0) + body


def _waiting(netlink: socket.socket, family: int) -> Iterator[bytes]:
    netlink.send(_message(_SOCK_DIAG_BY_FAMILY, _REQUEST | _DUMP, family, bytes(_ID_BYTES)))
    while True:
        answer = netlink.recv(_BUFFER)
        while answer:
            length, kind, *_ = _HEADER.unpack_from(answer)
            if kind in (_DONE, _ERROR):
                return
            start = _HEADER.size + _ID_OFFSET
            yield answer[start : start + _ID_BYTES]
            answer = answer[(length + 3) & ~3 :]


def _end(netlink: socket.socket, family: int, identity: bytes) -> int:
    netlink.send(_message(_SOCK_DESTROY, _REQUEST | _ACK, family, identity))
    answer = netlink.recv(_BUFFER)
    error: int = struct.unpack_from("=i", answer, _HEADER.size)[0]
    return int(error == 0)
