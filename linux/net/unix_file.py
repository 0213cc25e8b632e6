"""The file that another process's Unix socket is bound to, wherever it is by now."""

import fcntl
import os
from typing import Final, NamedTuple

from linux.syscalls import LIBC

_SYS_PIDFD_GETFD: Final = 438
_SIOCUNIXFILE: Final = 0x89E0


class SocketFile(NamedTuple):
    """Where it is."""

    path: str
    """As the mount namespace of its process has it."""
    device: int
    inode: int
    has_name: bool
    """False for one that was deleted."""


def file_of(pid: int, number: int) -> SocketFile:
    """Look at the file of a socket, by a copy of the descriptor that another process has of it.

    Raises:
        OSError: the process has ended, or the socket has no file.
    """
    held: list[int] = []
    try:
        held.append(os.pidfd_open(pid))
        held.append(_copied(held[0], number))
        held.append(fcntl.ioctl(held[1], _SIOCUNIXFILE))
        found = os.fstat(held[2])
        path = os.readlink(f"/proc/self/fd/{held[2]}")  # noqa: PTH115 - a text, maybe of no path of ours
        return SocketFile(path, found.st_dev, found.st_ino, has_name=found.st_nlink > 0)
    finally:
        for each in held:
            os.close(each)


def _copied(pidfd: int, number: int) -> int:
    copied: int = LIBC.syscall(_SYS_PIDFD_GETFD, pidfd, number, 0)
    if copied < 0:
        raise OSError(f"descriptor {number} cannot be copied")
    return copied
