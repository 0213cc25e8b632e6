"""What the kernel has set for one thread, and others may set for it: its processors, I/O priority and timer slack."""

import os
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from linux.proc import PROC, read_plainly
from linux.syscalls import LIBC, checked

_SET_IO_PRIORITY, _GET_IO_PRIORITY = {"aarch64": (30, 31)}.get(platform.machine(), (251, 252))
_OF_A_THREAD: Final = 1
CLASS_SHIFT: Final = 13
"""Bits of an I/O priority below its class (linux/ioprio.h)."""
BEST_EFFORT, IDLE = 2, 3
"""Classes that take no capability."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Those of one thread."""

    cpus: frozenset[int]
    """Processors that it may run on."""
    io_priority: int
    """Class and level, as ioprio_get(2) has them."""
    timer_slack: int
    """Nanoseconds."""


def settings(tid: int, proc: Path = PROC) -> Settings:
    """Read them.

    Raises:
        OSError: the thread has ended.
    """
    return Settings(
        cpus=frozenset(os.sched_getaffinity(tid)),
        io_priority=checked(LIBC.syscall(_GET_IO_PRIORITY, _OF_A_THREAD, tid), "ioprio_get"),
        timer_slack=int(read_plainly(f"{proc}/{tid}/timerslack_ns")),
    )


def set_io_priority(tid: int, priority: int) -> None:
    """Set class and level.

    Raises:
        OSError: the thread has ended, or there is no such priority.
    """
    checked(LIBC.syscall(_SET_IO_PRIORITY, _OF_A_THREAD, tid, priority), "ioprio_set")


def set_timer_slack(tid: int, nanoseconds: int, proc: Path = PROC) -> None:
    """Set the slack of timers.

    Raises:
        OSError: the thread has ended, or is scheduled in real time and has none.
    """
    (proc / str(tid) / "timerslack_ns").write_text(str(nanoseconds))
