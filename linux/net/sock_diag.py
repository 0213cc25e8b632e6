"""TCP sockets of a network namespace, by netlink's sock_diag(7): those that only wait for their end are ended early.

A restored listener cannot bind its port in the namespace that its connections were closed in, unless the worker had set
SO_REUSEADDR. A kernel without CONFIG_INET_DIAG_DESTROY refuses; the port is then free after a minute.
"""

import socket
import struct
from collections.abc import Collection, Iterator
from contextlib import suppress
from typing import Final

from linux.net.netlink import answers, open_sock_diag, order

_DESTROY: Final = 21
_TIME_WAIT: Final = 6
_ENDING: Final = (4, 5, 8, 9, 11)
"""FIN_WAIT1, FIN_WAIT2, CLOSE_WAIT, LAST_ACK, CLOSING."""
_STATES: Final = sum(1 << state for state in (_TIME_WAIT, *_ENDING))
_REQUEST_V2: Final = struct.Struct("=BBBxI48s")
"""family, protocol, extensions, states, socket id."""
_ID_OFFSET: Final = 4
_ID_BYTES: Final = 48
_STATE_OFFSET: Final = 1
_INODE_OFFSET: Final = _ID_OFFSET + _ID_BYTES + 16
"""Of an ``inet_diag_msg``: the socket's id is followed by four numbers, then the inode."""


def end_leftovers(ports: Collection[int]) -> int:
    """End TCP sockets of the calling thread's network namespace that no process has; return how many were ended.

    Args:
        ports: those of which also sockets are ended whose last segments are on their way; those in TIME_WAIT all are.
    """
    ended = 0
    with open_sock_diag() as netlink:
        for family in (socket.AF_INET, socket.AF_INET6):
            with suppress(OSError):
                for identity in list(_leftovers(netlink, family, ports)):
                    ended += order(netlink, _DESTROY, _about(family, identity))
    return ended


def _about(family: int, identity: bytes) -> bytes:
    return _REQUEST_V2.pack(family, socket.IPPROTO_TCP, 0, _STATES, identity)


def _leftovers(netlink: socket.socket, family: int, ports: Collection[int]) -> Iterator[bytes]:
    for found in answers(netlink, _about(family, bytes(_ID_BYTES))):
        identity = found[_ID_OFFSET : _ID_OFFSET + _ID_BYTES]
        (inode,) = struct.unpack_from("=I", found, _INODE_OFFSET)
        if found[_STATE_OFFSET] == _TIME_WAIT or (not inode and int.from_bytes(identity[:2], "big") in ports):
            yield identity
