"""What another process's Unix socket is bound to and asks for, by a copy of its descriptor."""

import fcntl
import os
import socket
from contextlib import suppress
from typing import Final, NamedTuple

from linux.syscalls import LIBC

_SYS_PIDFD_GETFD: Final = 438
_SIOCUNIXFILE: Final = 0x89E0
_SENDERS: Final = (16, 34, 76)
"""SO_PASSCRED, SO_PASSSEC, SO_PASSPIDFD."""
_TIMES: Final = (29, 35)
"""SO_TIMESTAMP, SO_TIMESTAMPNS: streams have none."""


class SocketFile(NamedTuple):
    """Where it is."""

    path: str
    """As the mount namespace of its process has it."""
    device: int
    inode: int
    names: int
    """None of one that was deleted, several of one with hard links."""


def file_of(pid: int, number: int) -> SocketFile:
    """Look at the file of a socket, by a copy of the descriptor that another process has of it.

    Raises:
        OSError: the process has ended, or the socket has no file.
    """
    held: list[int] = []
    try:
        held.append(copied(pid, number))
        held.append(fcntl.ioctl(held[0], _SIOCUNIXFILE))
        found = os.fstat(held[1])
        path = os.readlink(f"/proc/self/fd/{held[1]}")  # noqa: PTH115 - a text, maybe of no path of ours
        return SocketFile(path, found.st_dev, found.st_ino, found.st_nlink)
    finally:
        for each in held:
            os.close(each)


def has_senders(pid: int, number: int, kind: int) -> bool:
    """Say whether what waits in a socket has a sender's credentials or a time with it: options ask for that.

    Args:
        pid: a process that has the socket open.
        number: of its descriptor.
        kind: as ``socket.SOCK_STREAM``.

    Raises:
        OSError: the process has ended.
    """
    options = _SENDERS if kind == socket.SOCK_STREAM else (*_SENDERS, *_TIMES)
    with socket.socket(fileno=copied(pid, number)) as held:
        return any(_is_on(held, option) for option in options)


def _is_on(held: socket.socket, option: int) -> bool:
    with suppress(OSError):  # a kernel without it
        return held.getsockopt(socket.SOL_SOCKET, option) != 0
    return False


def copied(pid: int, number: int) -> int:
    """Return a copy of another process's descriptor.

    Raises:
        OSError: the process has ended, or closed it.
    """
    held = os.pidfd_open(pid)
    try:
        found: int = LIBC.syscall(_SYS_PIDFD_GETFD, held, number, 0)
    finally:
        os.close(held)
    if found < 0:
        raise OSError(f"descriptor {number} cannot be copied")
    return found
