"""Finds standby's socket: standby holds a worker's memory beside the page server, so neither's end leaves holes."""

import os
import socket
import stat
import struct
from contextlib import suppress
from typing import Final

from agent.executor.lock import ControlDir
from contract.api import control_files

_UCRED: Final = struct.Struct("3i")
"""``struct ucred``: pid, uid, gid."""


def has_guard(control: ControlDir) -> bool:
    """Say whether there is a socket; whose it is, connecting to it says."""
    with suppress(OSError):
        found = os.stat(control_files.PAGES, dir_fd=control.directory, follow_symlinks=False)
        return stat.S_ISSOCK(found.st_mode)
    return False


def connect_guard(control: ControlDir, init_pid: int) -> socket.socket | None:
    """Connect to the standby ``init_pid``; None if it has no socket, or another process made that one.

    The directory is the container's: a link there could lead to any socket of the node.
    """
    with suppress(OSError):
        found = os.open(control_files.PAGES, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=control.directory)
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
