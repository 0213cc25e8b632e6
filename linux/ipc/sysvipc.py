"""System V shared memory, semaphores and message queues of an IPC namespace, as the kernel lists them."""

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from linux.ipc.calls import MSG, SEM, SHM, user_of_semaphore
from linux.proc import PROC

KINDS: Final = {SHM: "shared memory", SEM: "semaphores", MSG: "message queue"}
_ID: Final = {SHM: "shmid", SEM: "semid", MSG: "msqid"}
_SIZE: Final = {SHM: "size", SEM: "nsems", MSG: "cbytes"}
_USERS: Final = ("cpid", "lpid", "lspid", "lrpid")
_LOCKED: Final = 0o2000
"""SHM_LOCKED, among the bits of a mode."""
RMID_FORCED: Final = "sys/kernel/shm_rmid_forced"


@dataclass(frozen=True)
class SysvObject:
    """One object."""

    kind: str
    """``shm``, ``sem`` or ``msg``."""
    key: int
    id: int
    mode: int = 0
    size: int = 0
    """Bytes of memory or of messages, or how many semaphores."""
    attached: int = 0
    """Mappings of it; 0 of what cannot be mapped."""
    creator: int = 0
    """Who made it, as /proc numbers processes; 0: not known."""
    users: frozenset[int] = frozenset()
    """The same of those that used it last, the creator among them."""
    used: bool = False
    """Of semaphores: whether there was an operation, by which programs see that they have their first values."""

    @property
    def is_locked(self) -> bool:
        """Whether it is held in memory (SHM_LOCK)."""
        return bool(self.mode & _LOCKED)

    def __str__(self) -> str:
        return f"System V {KINDS[self.kind]} {self.key & 0xFFFFFFFF:#x} (id {self.id})"


def sysv_objects(proc: Path = PROC) -> Iterator[SysvObject]:
    """Yield what there is in this thread's IPC namespace."""
    for kind in KINDS:
        head, *rows = (proc / "sysvipc" / kind).read_text().splitlines()
        names = head.split()
        for row in rows:
            yield _object(kind, dict(zip(names, row.split(), strict=False)))


def _object(kind: str, row: dict[str, str]) -> SysvObject:
    numbers = {name: int(word, 8 if name == "perms" else 10) for name, word in row.items()}
    number, size = numbers[_ID[kind]], numbers.get(_SIZE[kind], 0)
    users = {numbers.get(name, 0) for name in _USERS}
    if kind == SEM:
        users |= set(_of_semaphores(number, size))
    return SysvObject(
        kind=kind,
        key=numbers["key"],
        id=number,
        mode=numbers.get("perms", 0),
        size=size,
        attached=numbers.get("nattch", 0),
        creator=numbers.get("cpid", 0),
        users=frozenset(users - {0}),
        used=numbers.get("otime", 0) != 0,
    )


def _of_semaphores(number: int, count: int) -> Iterator[int]:
    with suppress(OSError):  # it was removed
        for place in range(count):
            yield user_of_semaphore(number, place)


def destroys_unattached(proc: Path = PROC) -> bool:
    """Say whether this thread's IPC namespace destroys shared memory that no process has attached."""
    return (proc / RMID_FORCED).read_text().strip() != "0"


def shares_namespace(init_pid: int, proc: Path = PROC) -> Iterator[int]:
    """Yield processes that are in the IPC namespace of a container, and of another container.

    The first process of a pod's sandbox is left out: it waits, and does nothing else. So are those of the node itself,
    as helpers of ours are.
    """
    base = proc / str(init_pid) / "ns"
    own = (base / "ipc").readlink()
    pids = ((base / "pid").readlink(), (proc / "self/ns/pid").readlink())
    for name in os.listdir(proc):  # noqa: PTH208 - a node has hundreds of processes
        if not name.isdigit():
            continue
        with suppress(OSError):
            other = proc / name
            if (other / "ns/ipc").readlink() == own and (other / "ns/pid").readlink() not in pids and not _waits(other):
                yield int(name)


def _waits(base: Path) -> bool:
    return (base / "comm").read_text().rstrip("\n") == "pause"
