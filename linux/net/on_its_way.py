"""Descriptors that wait in Unix sockets (SCM_RIGHTS): no process has them open, and a look leaves them there."""

import array
import os
import re
import socket
from contextlib import suppress
from typing import Final, NamedTuple

from linux.descriptors import Descriptor, own_descriptor
from linux.net.unix_file import copied

_MOST: Final = 253
"""Descriptors in one message (SCM_MAX_FD)."""
_AHEAD: Final = 1 << 20
"""Bytes that are looked through for the first message with descriptors."""
_CLOSE_ON_EXEC: Final = 0x40000000
"""MSG_CMSG_CLOEXEC."""
_PEEK_OFFSET: Final = 42
"""SO_PEEK_OFF."""
_WAITING: Final = re.compile(r"^scm_fds:\s*(\d+)$", re.MULTILINE)


class OnItsWay(NamedTuple):
    """What waits in one socket, and in sockets that wait in it."""

    descriptors: tuple[Descriptor, ...]
    is_all: bool
    """A look shows those of the first message that has any."""


def on_its_way(pid: int, number: int) -> OnItsWay:
    """Look at what waits in a Unix socket.

    Args:
        pid: a process that has the socket open.
        number: of its descriptor.

    Raises:
        OSError: the process has ended.
    """
    found: list[Descriptor] = []
    with socket.socket(fileno=copied(pid, number)) as held:
        is_all = _look(held, number, found, set())
    return OnItsWay(tuple(found), is_all)


def _look(held: socket.socket, number: int, found: list[Descriptor], seen: set[int | None]) -> bool:
    """Add what waits; say whether that is all. Each socket is looked at once: they may wait in each other."""
    waiting = _number_of(held.fileno())
    if not waiting:
        return True
    if held.getsockopt(socket.SOL_SOCKET, _PEEK_OFFSET) >= 0:  # a look would move it
        return False
    taken = _copies(held)
    is_all = len(taken) >= waiting
    for each in taken:
        try:
            descriptor = own_descriptor(each)
            found.append(descriptor._replace(number=number, is_on_its_way=True))
            if descriptor.protocol.startswith("UNIX") and descriptor.socket not in seen:
                seen.add(descriptor.socket)
                with socket.socket(fileno=os.dup(each)) as inner:
                    is_all = _look(inner, number, found, seen) and is_all
        finally:
            os.close(each)
    return is_all


def _copies(held: socket.socket) -> list[int]:
    """Return copies of descriptors that wait; ``socket.recv_fds`` would take them, as it ignores its flags."""
    taken = array.array("i")
    with suppress(BlockingIOError):  # received meanwhile
        flags = socket.MSG_PEEK | socket.MSG_DONTWAIT | _CLOSE_ON_EXEC
        for level, kind, content in held.recvmsg(_AHEAD, socket.CMSG_LEN(_MOST * taken.itemsize), flags)[1]:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                taken.frombytes(content[: len(content) - len(content) % taken.itemsize])
    return list(taken)


def _number_of(held: int) -> int:
    """Return how many descriptors wait; 0 if the kernel does not say."""
    with open(f"/proc/self/fdinfo/{held}") as file:  # noqa: PTH123 - a worker may have ten thousand sockets
        match = _WAITING.search(file.read())
    return int(match[1]) if match else 0
