"""Finds the preload library in CUDA processes: ``native/device_memory``, which takes their device memory out."""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from contract.api.keys import DEVICE_MEMORY_LIBRARY
from linux.proc import PROC, environment

MAIN_THREAD: Final = "snapshot-device"
COPIER_THREAD: Final = "snapshot-copier"
COPIERS: Final = 16
"""Threads that copy, each with a file of its own."""
_FILE: Final = Path(DEVICE_MEMORY_LIBRARY).name


@dataclass(frozen=True)
class Library:
    """A CUDA process that has the library at work."""

    pid: int
    """The host's."""
    inner_pid: int
    """Inside the container."""
    main: int
    """Thread that is woken; both are the host's numbers."""
    threads: frozenset[int]
    """All of the library's: they must run while it works."""


def find_library(pid: int, inner_pid: int, proc: Path = PROC) -> Library | None:
    """Return the library in a process; None if it has none, or has not allocated device memory by it yet."""
    found: dict[str, set[int]] = {MAIN_THREAD: set(), COPIER_THREAD: set()}
    with suppress(OSError):
        for task in (proc / str(pid) / "task").iterdir():
            with suppress(OSError):  # a thread may end at any moment
                name = (task / "comm").read_text().rstrip("\n")
                found.get(name, set()).add(int(task.name))
    if len(found[MAIN_THREAD]) != 1 or len(found[COPIER_THREAD]) != COPIERS:
        return None
    (main,) = found[MAIN_THREAD]
    return Library(pid, inner_pid, main, frozenset({main, *found[COPIER_THREAD]}))


def is_preloaded(pid: int, proc: Path = PROC) -> bool:
    """Say whether a process was started with the library, which has no thread before it has something to do."""
    with suppress(OSError):
        return _FILE in environment(pid, proc).get("LD_PRELOAD", "")
    return False
