"""The seccomp filters of a process, read as criu reads them."""

import ctypes
from typing import Final

from linux.ptrace.halt import halted, request

FILTER: Final = 2
"""The mode in /proc/PID/status of a process with filters."""
_GET_FILTER: Final = 0x420C
_INSTRUCTION: Final = 8
"""Bytes of ``struct sock_filter``."""


def filters(pid: int) -> tuple[bytes, ...]:
    """Return the filters of a process's first thread, the oldest first; it is halted meanwhile.

    Raises:
        OSError: it cannot be traced, does not halt, or the kernel does not show its filters.
    """
    found = list[bytes]()
    with halted(pid):
        while (code := _filter(pid, len(found))) is not None:
            found.append(code)
    return tuple(found)


def _filter(pid: int, index: int) -> bytes | None:
    """Return the code of one filter; None if there are fewer. 0 is the oldest, whatever ptrace(2) says."""
    try:
        count = request(_GET_FILTER, pid, index)
    except FileNotFoundError:
        return None
    code = ctypes.create_string_buffer(count * _INSTRUCTION)
    request(_GET_FILTER, pid, index, ctypes.addressof(code))
    return code.raw
