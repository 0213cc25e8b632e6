"""A thread of another process that is halted for a moment, by ptrace(2)."""

import ctypes
import errno
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from linux.proc import read_plainly
from linux.syscalls import LIBC

PATIENCE: Final = 5.0
"""Seconds that a thread is given to halt: one that waits for a disk does not until the disk has answered."""
INTERRUPT: Final = 0x4207
_DETACH, _SEIZE = 17, 0x4206
_WALL: Final = 0x40000000
_PAUSE: Final = 0.0002
_LOOKS: Final = 200
"""Looks without a pause, for some ten times as long as a thread takes to make one call and halt again. To sleep for no
time at all takes 50 microseconds, the slack of timers."""


@contextmanager
def halted(tid: int, options: int = 0) -> Iterator[None]:
    """Halt a thread, traced with these options of ptrace; at the end it goes on, or stays stopped if it was.

    Raises:
        OSError: it cannot be traced, or does not halt in time.
    """
    _await_end_of_sleep(tid)
    request(_SEIZE, tid, 0, options)
    try:
        request(INTERRUPT, tid)
        await_halt(tid)
        yield
    finally:
        LIBC.ptrace(_DETACH, tid, 0, 0)


def _await_end_of_sleep(tid: int) -> None:
    """Wait until a thread is in no sleep that only its own event ends: for a disk, or for its child after vfork(2).

    It would not halt, and nothing takes a tracer away from a thread that has not: it would halt later, for ever.
    """
    end = time.monotonic() + PATIENCE
    while read_plainly(f"/proc/{tid}/stat").rpartition(b") ")[2].startswith(b"D"):
        if time.monotonic() > end:
            raise TimeoutError(errno.ETIMEDOUT, f"thread {tid} does not halt")
        time.sleep(_PAUSE)


def await_halt(tid: int) -> int:
    """Wait until a traced thread halts; return its wait status.

    Raises:
        OSError: it ended, or does not halt in time.
    """
    end, looks = time.monotonic() + PATIENCE, 0
    while not (found := os.waitpid(tid, os.WNOHANG | _WALL))[0]:
        if time.monotonic() > end:
            raise TimeoutError(errno.ETIMEDOUT, f"thread {tid} does not halt")
        looks += 1
        if looks > _LOOKS:
            time.sleep(_PAUSE)
        else:
            os.sched_yield()
    if not os.WIFSTOPPED(found[1]):
        raise ProcessLookupError(errno.ESRCH, f"thread {tid} has ended")
    return found[1]


def request(number: int, tid: int, address: int = 0, data: int = 0) -> int:
    """Make one request of ptrace.

    Raises:
        OSError: it is refused.
    """
    result = int(LIBC.ptrace(number, tid, address, data))
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error), f"thread {tid}")
    return result
