"""Sockets of standby in the control directory of its container, of which everything may be hostile."""

import os
import socket
import stat
import struct
from contextlib import suppress
from typing import Final

_UCRED: Final = struct.Struct("3i")
"""``struct ucred``: pid, uid, gid."""


def is_there(directory: int, name: str) -> bool:
    """Say whether a socket of that name is in the directory."""
    with suppress(OSError):
        return stat.S_ISSOCK(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode)
    return False


def connect(directory: int, name: str, init_pid: int) -> socket.socket | None:
    """Connect to a socket of the standby ``init_pid``; None if there is none, or another process made it.

    The directory is the container's: a link there could lead to any socket of the node.
    """
    with suppress(OSError):
        found = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
        try:
            return _connected(found, init_pid) if stat.S_ISSOCK(os.fstat(found).st_mode) else None
        finally:
            os.close(found)
    return None


def _connected(found: int, init_pid: int) -> socket.socket | None:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        connection.setblocking(False)
        connection.connect(f"/proc/self/fd/{found}")
        pid, _, _ = _UCRED.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
        if pid == init_pid:
            connection.setblocking(True)
            return connection
    except OSError:
        pass
    connection.close()
    return None
