"""Files without a name in any file system that are something of the kernel's: timers, counters, processes."""

import os
import re
from pathlib import Path
from typing import Final, NamedTuple

from linux.proc import PROC, is_alive

PREFIX: Final = "anon_inode:"
EPOLL: Final = "eventpoll"
EVENTFD: Final = "anon_inode:[eventfd]"
_LARGEST_INITIAL: Final = 0xFFFFFFFF
"""eventfd() takes 32 bits of a count."""
_FIELD: Final = re.compile(r"^([\w-]+):\s*(-?\w+)", re.MULTILINE)
_WAKING_CLOCKS: Final = ("8", "9")
"""CLOCK_REALTIME_ALARM and CLOCK_BOOTTIME_ALARM."""
_DESCRIBED: Final = ("eventfd", "timerfd", "pidfd")


class Anonymous(NamedTuple):
    """What one of them is."""

    kind: str
    """As the kernel names it, brackets left out: ``eventpoll``, ``bpf-map``."""
    is_semaphore: bool = False
    """An eventfd of which each read takes one."""
    held: int = 0
    """What an eventfd holds."""
    identity: int = 0
    """Of an eventfd: no other has the same."""
    wakes_machine: bool = False
    """A timerfd of a clock that wakes a suspended machine."""
    process: int = 0
    """The live process or thread that a pidfd is of, as this /proc numbers it; 0 for one that has ended."""
    is_of_thread: bool = False
    """A pidfd of a thread, which may not be the first of its process."""
    is_handle: bool = False
    """It only names one (O_PATH); not known of those of which little is read."""

    @property
    def is_special(self) -> bool:
        """Say whether it is an eventfd that one call with its count does not make again."""
        return self.is_semaphore or self.held > _LARGEST_INITIAL


def anonymous(target: str, info: str, proc: Path = PROC) -> Anonymous | None:
    """Describe what a link of /proc/PID/fd says to have no name; None for all else.

    Args:
        target: what the link says.
        info: path of the descriptor in fdinfo; read for those of which it says more than the link.
        proc: where processes are looked up.
    """
    if not target.startswith(PREFIX):
        return None
    kind = target.removeprefix(PREFIX).strip("[]")
    if kind not in _DESCRIBED:
        return Anonymous(kind)
    with open(info) as file:  # noqa: PTH123 - a worker may have ten thousand
        return _described(kind, dict(_FIELD.findall(file.read())), proc)


def _described(kind: str, fields: dict[str, str], proc: Path) -> Anonymous:
    process, flags = int(fields.get("Pid", "0")), int(fields.get("flags", "0"), 8)
    return Anonymous(
        kind,
        is_semaphore=fields.get("eventfd-semaphore") == "1",
        held=int(fields.get("eventfd-count", "0"), 16),
        identity=int(fields.get("eventfd-id", "0")),
        wakes_machine=fields.get("clockid") in _WAKING_CLOCKS,
        process=process if process > 0 and is_alive(process, proc) else 0,
        is_of_thread=kind == "pidfd" and bool(flags & os.O_EXCL),
        is_handle=bool(flags & os.O_PATH),
    )
