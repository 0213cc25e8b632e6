"""What the checks look at, read from /proc in one pass over the worker's tree."""

import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from linux.descriptors import Descriptor, descriptors
from linux.proc import PROC, Mount, mounts, status
from linux.sockets import BoundSocket, bound_sockets

NAMESPACES: Final = ("cgroup", "ipc", "mnt", "net", "pid", "pid_for_children", "user", "uts")
_TERMINAL: Final = 4
"""Field of /proc/PID/stat after the name: tty_nr."""


@dataclass(frozen=True)
class Process:
    """One process of the tree."""

    pid: int
    """As the container numbers it."""
    name: str
    has_terminal: bool
    """It has a controlling terminal."""
    namespaces: Mapping[str, str]
    descriptors: tuple[Descriptor, ...]
    strangers: tuple[int, ...] = ()
    """Children that are in another pid namespace, and so not in the tree; as the node numbers them."""

    def __str__(self) -> str:
        return f"process {self.pid} ({self.name})"


@dataclass(frozen=True)
class Tree:
    """The worker's processes, the root first, and what they share."""

    processes: tuple[Process, ...]
    mounts: tuple[Mount, ...]
    sockets: tuple[BoundSocket, ...]
    empty_dirs: frozenset[str] = frozenset()
    """Mount points of the pod's emptyDirs."""
    writable_mounts: frozenset[str] = frozenset()
    """Mount points of volumes that the pod's owner says are safe to write to."""


def read_tree(
    pids: Iterable[int], *, empty_dirs: Iterable[str] = (), writable_mounts: Iterable[str] = (), proc: Path = PROC
) -> Tree:
    """Read the facts of a tree; a process that ends meanwhile is left out.

    Args:
        pids: the tree's, as the node numbers them, the root first.
        empty_dirs: mount points of emptyDirs.
        writable_mounts: mount points that may be written to.
        proc: /proc of the node.

    Raises:
        OSError: the root has ended.
    """
    root, *others = pids
    members = frozenset((root, *others))
    found = [_process(root, members, proc)]
    for pid in others:
        with suppress(OSError):
            found.append(_process(pid, members, proc))
    return Tree(
        processes=tuple(found),
        mounts=tuple(mounts(root, proc)),
        sockets=tuple(bound_sockets(root, proc)),
        empty_dirs=frozenset(empty_dirs),
        writable_mounts=frozenset(writable_mounts),
    )


def _process(pid: int, members: frozenset[int], proc: Path) -> Process:
    base = proc / str(pid)
    head, _, tail = (base / "stat").read_text().rpartition(")")
    return Process(
        pid=status(pid, proc).inner_pid,
        name=head.partition("(")[2],
        has_terminal=tail.split()[_TERMINAL] != "0",
        namespaces={kind: str((base / "ns" / kind).readlink()) for kind in NAMESPACES},
        descriptors=tuple(descriptors(pid, proc)),
        strangers=tuple(sorted(_children(base) - members)),
    )


def _children(base: Path) -> set[int]:
    found = set()
    with os.scandir(base / "task") as tasks:
        for task in tasks:
            with suppress(OSError):
                found |= {int(word) for word in Path(task.path, "children").read_text().split()}
    return found
