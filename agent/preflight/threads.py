"""What threads of a process have for themselves: criu takes it that all have what the first one has."""

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from agent.errors import RefusedError
from contract.api.states import AgentReason
from linux.proc import PROC, Status, is_alive, is_ending, is_exiting, pids, shares_descriptors, shares_folder, status

_KINDS: Final = ("cgroup", "ipc", "mnt", "net", "pid_for_children", "uts")
"""Namespaces that one thread can have without the others; of time and users it takes a process."""


_SYS_ADMIN: Final = 21
"""Number of the capability without which no thread has a namespace for itself."""


def apart(about: Status, namespaces: Mapping[str, str], proc: Path = PROC) -> tuple[str, ...]:
    """Return what any thread has for itself, in words.

    Args:
        about: the process.
        namespaces: of its first thread, by kind.
        proc: /proc of the node.
    """
    pid = about.pid
    threads = sorted(map(int, os.listdir(f"{proc}/{pid}/task")))  # noqa: PTH208 - a thousand threads
    if len(threads) < 2:  # noqa: PLR2004 - one is not apart from itself
        return ()
    first = next((tid for tid in threads if not is_exiting(pid, tid, proc)), 0)
    own = namespaces if about.capabilities["CapBnd"] >> _SYS_ADMIN & 1 else {}
    found = {words for tid in threads if tid != first for words in _apart(pid, first, tid, own, proc)}
    return tuple(sorted(found))


def children_of(pid: int, proc: Path = PROC) -> set[int]:
    """Return the children of all threads of a process."""
    found = set()
    with os.scandir(f"{proc}/{pid}/task") as tasks:
        for task in tasks:
            path = f"{task.path}/children"
            with suppress(OSError), open(path) as file:  # noqa: PTH123 - a worker may have a thousand threads
                found |= {int(word) for word in file.read().split()}
    return found


def policies(pid: int, proc: Path = PROC) -> frozenset[int]:
    """Return the policies that the threads of a process are scheduled by, without SCHED_RESET_ON_FORK."""
    found = set()
    for tid in pids(proc / str(pid) / "task"):
        with suppress(OSError):  # it ended
            found.add(os.sched_getscheduler(tid) & ~os.SCHED_RESET_ON_FORK)
    return frozenset(found)


def headless(children: Iterable[int], proc: Path = PROC) -> tuple[int, ...]:
    """Return those that look like zombies and have threads that go on, as the container numbers them."""
    return tuple(inner for child in children for inner in _headless(child, proc))


def refuse_headless(init_pid: int, proc: Path = PROC) -> None:
    """Refuse a worker that only looks as if it had ended.

    Raises:
        RefusedError: a child of the container's first process has no first thread.
    """
    for inner in headless(children_of(init_pid, proc), proc):
        raise RefusedError(AgentReason.THREAD_APART, without_first_thread(inner))


def without_first_thread(inner_pid: int) -> str:
    """Return how a finding names a process whose first thread has ended."""
    return f"the first thread of process {inner_pid} has ended, and others go on"


def _headless(pid: int, proc: Path) -> Iterator[int]:
    tasks = proc / str(pid) / "task"
    with suppress(OSError):
        if not is_alive(pid, proc) and not all(is_ending(pid, tid, proc) for tid in pids(tasks)):
            yield status(pid, proc).inner_pid


def _apart(pid: int, first: int, tid: int, namespaces: Mapping[str, str], proc: Path) -> Iterator[str]:
    found: list[str] = []
    if not shares_descriptors(first, tid):
        found.append("descriptors")
    if not shares_folder(first, tid):
        found.append("a working folder")
    if namespaces:
        found += _namespaces_apart(f"{proc}/{pid}/task/{tid}/ns", namespaces)
    if found and not is_exiting(pid, tid, proc):
        yield from found


def _namespaces_apart(folder: str, namespaces: Mapping[str, str]) -> list[str]:
    try:
        opened = os.open(folder, os.O_PATH | os.O_CLOEXEC)
    except OSError:  # it has ended
        return []
    try:
        return [f"a namespace ({kind})" for kind in _KINDS if os.readlink(kind, dir_fd=opened) != namespaces[kind]]
    except OSError:
        return []
    finally:
        os.close(opened)
