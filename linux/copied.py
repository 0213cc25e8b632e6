"""What of another process's open file shows only in a copy of its descriptor."""

import fcntl
import os
import select
import socket
import struct
from pathlib import Path
from typing import Final

from linux.net.unix_file import copied
from linux.proc import PROC

_UDP_CORK: Final = 1
_NETLINK, _MEMBERSHIPS, _WORDS = 270, 9, 64
_FIRST_GROUPS: Final = 4
"""Bytes of the first 32."""
_GET_FILTER: Final = 26
_GET_OWNER, _A_THREAD = 16, 0
"""F_GETOWN_EX and F_OWNER_TID."""
_OWNER: Final = struct.Struct("=ii")


def is_hung_up(pid: int, number: int) -> bool:
    """Say whether reading from a pseudo-terminal's master would fail, as its other end was closed.

    Raises:
        OSError: the process has ended, or closed it.
    """
    held = copied(pid, number)
    try:
        poll = select.poll()
        poll.register(held, 0)
        return any(events & select.POLLHUP for _, events in poll.poll(0))
    finally:
        os.close(held)


def is_corked(pid: int, number: int) -> bool:
    """Say whether a UDP socket holds back what is sent until that option is taken off (UDP_CORK).

    Raises:
        OSError: the process has ended, or closed it.
    """
    with socket.socket(fileno=copied(pid, number)) as held:
        return held.getsockopt(socket.IPPROTO_UDP, _UDP_CORK) != 0


def is_in_far_groups(pid: int, number: int) -> bool:
    """Say whether a netlink socket is in a group that is not one of the first 32.

    Raises:
        OSError: the process has ended, or closed it.
    """
    with socket.socket(fileno=copied(pid, number)) as held:
        return any(held.getsockopt(_NETLINK, _MEMBERSHIPS, _WORDS)[_FIRST_GROUPS:])


def has_program(pid: int, number: int) -> bool:
    """Say whether what a socket receives is filtered by an eBPF program, which the kernel does not give away.

    Raises:
        OSError: the process has ended, or closed it.
    """
    with socket.socket(fileno=copied(pid, number)) as held:
        try:
            held.getsockopt(socket.SOL_SOCKET, _GET_FILTER)
        except PermissionError:
            return True
        except OSError:  # a filter of the older kind is longer than what was asked for
            return False
    return False


def signals_thread(pid: int, number: int, proc: Path = PROC) -> bool:
    """Say whether a file signals a thread that is not the first of its process (F_SETOWN_EX).

    Raises:
        OSError: the process has ended, or closed it.
    """
    held = copied(pid, number)
    try:
        kind, owner = _OWNER.unpack(fcntl.fcntl(held, _GET_OWNER, bytes(_OWNER.size)))
    finally:
        os.close(held)
    return kind == _A_THREAD and owner > 0 and not _is_first(owner, proc)


def _is_first(tid: int, proc: Path) -> bool:
    return f"\nTgid:\t{tid}\n" in (proc / str(tid) / "status").read_text(errors="replace")
