"""The seccomp filters of a process, read as criu reads them."""

import ctypes
import errno
import os
import time
from typing import Final

from linux.syscalls import LIBC

FILTER: Final = 2
"""The mode in /proc/PID/status of a process with filters."""
PATIENCE: Final = 5.0
_DETACH, _SEIZE, _INTERRUPT, _GET_FILTER = 17, 0x4206, 0x4207, 0x420C
_WALL: Final = 0x40000000
_INSTRUCTION: Final = 8
"""Bytes of ``struct sock_filter``."""
_PAUSE: Final = 0.0002


def filters(pid: int) -> tuple[bytes, ...]:
    """Return the filters of a process's first thread, the oldest first; it is halted meanwhile.

    Raises:
        OSError: it cannot be traced, does not halt, or the kernel does not show its filters.
    """
    _ptrace(_SEIZE, pid)
    try:
        _ptrace(_INTERRUPT, pid)
        end = time.monotonic() + PATIENCE
        while not os.waitpid(pid, os.WNOHANG | _WALL)[0]:
            if time.monotonic() > end:
                raise TimeoutError(errno.ETIMEDOUT, f"process {pid} does not halt")
            time.sleep(_PAUSE)
        found = list[bytes]()
        while (code := _filter(pid, len(found))) is not None:
            found.append(code)
        return tuple(found)
    finally:
        LIBC.ptrace(_DETACH, pid, 0, 0)


def _filter(pid: int, index: int) -> bytes | None:
    """Return the code of one filter; None if there are fewer. 0 is the oldest, whatever ptrace(2) says."""
    try:
        count = _ptrace(_GET_FILTER, pid, index)
    except FileNotFoundError:
        return None
    code = ctypes.create_string_buffer(count * _INSTRUCTION)
    _ptrace(_GET_FILTER, pid, index, ctypes.addressof(code))
    return code.raw


def _ptrace(request: int, pid: int, address: int = 0, data: int = 0) -> int:
    result = int(LIBC.ptrace(request, pid, address, data))
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), f"process {pid}")
    return result
