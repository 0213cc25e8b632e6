"""Unix sockets of a network namespace and what each is connected to, by netlink's sock_diag(7)."""

import os
import socket
import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

from linux.net.netlink import answers, open_sock_diag

_REQUEST: Final = struct.Struct("=BBHIII2I")
"""family, protocol, padding, states, inode, what to show, cookie."""
_SHOW_NAME, _SHOW_PEER, _SHOW_WAITING, _SHOW_QUEUES = 1, 4, 8, 16
_FOUND: Final = struct.Struct("=BBBxI8x")
"""family, kind, state, inode, cookie."""
_ATTRIBUTE: Final = struct.Struct("=HH")
_HEAD: Final = _ATTRIBUTE.size
_NUMBER: Final = struct.Struct("=I")
_NAME, _PEER, _WAITING, _QUEUES = 0, 2, 3, 4
_QUEUE: Final = struct.Struct("=II")
_ALL_STATES: Final = 0xFFFFFFFF


class UnixSocket(NamedTuple):
    """One Unix socket."""

    inode: int
    kind: int
    """As ``socket.SOCK_STREAM``."""
    name: str = ""
    """Path, or ``@name`` for one that is in no file system; empty if it has none."""
    peer: int = 0
    """Inode of the socket that it is connected to; 0 for none, and for one that has not been accepted."""
    waiting: tuple[int, ...] = ()
    """Inodes of those that wait to be accepted."""
    unread: int = 0
    """Bytes that wait to be read, as the kernel counts them; of a listener, connections."""
    sent: int = 0
    """Bytes of what was sent and not received yet, as the kernel counts them; of a listener, no bytes."""


def unix_sockets(*, queues: bool = False) -> Iterator[UnixSocket]:
    """Yield the Unix sockets of the calling thread's network namespace; with *queues*, what waits in each.

    Raises:
        OSError: the kernel cannot say.
    """
    show = _SHOW_NAME | _SHOW_PEER | _SHOW_WAITING | (_SHOW_QUEUES if queues else 0)
    with open_sock_diag() as netlink:
        for found in answers(netlink, _REQUEST.pack(socket.AF_UNIX, 0, 0, _ALL_STATES, 0, show, 0, 0)):
            yield _parsed(found)


def _parsed(found: bytes) -> UnixSocket:
    """Parse one answer, at once what there are ten thousand of: a worker may have so many sockets."""
    _, kind, _, inode = _FOUND.unpack_from(found)
    name, peer, waiting, queues = "", 0, (), (0, 0)
    at, end = _FOUND.size, len(found)
    while at < end:
        length, what = _ATTRIBUTE.unpack_from(found, at)
        if what == _PEER:
            (peer,) = _NUMBER.unpack_from(found, at + _HEAD)
        elif what == _QUEUES:
            queues = _QUEUE.unpack_from(found, at + _HEAD)
        elif what == _NAME:
            name = _as_text(found[at + _HEAD : at + length])
        elif what == _WAITING:
            waiting = struct.unpack_from(f"={(length - _HEAD) // _NUMBER.size}I", found, at + _HEAD)
        at += (length + 3) & ~3
    return UnixSocket(inode, kind, name, peer, waiting, *queues)


def _as_text(name: bytes) -> str:
    return os.fsdecode(b"@" + name[1:] if name.startswith(b"\0") else name.rstrip(b"\0"))
