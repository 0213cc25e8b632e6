"""Of a manifest: the captured tree of processes, and what becomes of its connections."""

from typing import Annotated, Final

from pydantic import Field

from artifact.parts.base import Part, Pid

MAX_CPUS: Final = 8192
"""What a kernel can be built for at most (NR_CPUS)."""
MAX_KEYED: Final = 10_000
"""Mappings of a process, of which few are under keys."""
MOST_PROGRAMS: Final = 64
MOST_PROGRAM_BYTES: Final = 512 << 20
"""Of all programs of a worker that run from memfds: a restore makes them in memory of the agent's."""
MOST_EVENTFDS: Final = 128
"""That a restore makes and gives to criu: each is an argument of its command."""
MOST_DATABASES: Final = 4096
"""Of all processes."""
MOST_INODES: Final = 16
"""Places in a process's memory where it knows a database by its inode; SQLite has one for all connections."""
Key = Annotated[int, Field(ge=1, le=15)]
"""A protection key (pkeys(7))."""


class ThreadSettings(Part):
    """What was set for a thread, if it differs from its container's first process; else None."""

    process: Pid
    """Its process, as numbered inside the container."""
    id: Pid
    cpus: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1, max_length=MAX_CPUS)] | None = None
    """Processors that it might run on."""
    io_priority: Annotated[int, Field(ge=0, lt=1 << 16)] | None = None
    timer_slack: Annotated[int, Field(ge=0, lt=1 << 63)] | None = None
    """Nanoseconds."""


class KeyedMemory(Part):
    """Memory under a protection key."""

    start: Annotated[int, Field(ge=0, lt=1 << 57)]
    end: Annotated[int, Field(ge=0, lt=1 << 57)]
    key: Key
    protection: Annotated[str, Field(pattern=r"^[r-][w-][x-]$")]
    """As /proc/PID/maps has it."""


class ProtectionKeys(Part):
    """Those of one process."""

    process: Pid
    """As numbered inside the container."""
    keys: list[Key]
    memory: Annotated[list[KeyedMemory], Field(max_length=MAX_KEYED)]


class Program(Part):
    """One that processes ran from a memfd."""

    file: Annotated[str, Field(pattern=r"^program-[0-9]{1,2}\.img$")]
    name: Annotated[str, Field(max_length=249, pattern=r"^[^\x00]*$")]
    """Of the memfd."""
    seals: Annotated[int, Field(ge=0, lt=64)]
    """As fcntl(F_GET_SEALS) gives them."""
    mode: Annotated[int, Field(ge=0, le=0o777)] = 0o777
    uid: Annotated[int, Field(ge=0, lt=(1 << 32) - 1)] = 0
    gid: Annotated[int, Field(ge=0, lt=(1 << 32) - 1)] = 0


class Eventfd(Part):
    """One that is a semaphore, or holds more than 32 bits."""

    number: Annotated[int, Field(gt=0, lt=1 << 32)]
    """Among the open files of the images."""
    count: Annotated[int, Field(ge=0, lt=(1 << 64) - 1)]
    semaphore: bool
    nonblocking: bool


class Database(Part):
    """A database of SQLite that a process has open."""

    process: Pid
    """As numbered inside the container."""
    descriptor: Annotated[int, Field(ge=0, lt=1 << 31)]
    device: Annotated[int, Field(ge=0, lt=1 << 64)]
    inode: Annotated[int, Field(ge=0, lt=1 << 64)]
    places: Annotated[list[Annotated[int, Field(ge=0, lt=1 << 57)]], Field(max_length=MOST_INODES)]
    """Addresses of the process at which it has both numbers, one behind the other."""


class Process(Part):
    """The captured tree."""

    pid: Pid
    """Its root, as numbered inside the container."""
    argv: list[str]
    ids: list[Pid]
    """Every process and thread id of the tree."""
    stdio: dict[Annotated[str, Field(pattern=r"^[0-9]{1,9}$")], str]
    """Standby's descriptor -> what it was: ``pipe:[123]``."""
    stopped: list[Pid] = []
    """Processes that were stopped, as numbered inside the container: a restore does not wake them."""
    amx: list[Pid] = []
    """Processes that may use AMX, as numbered inside the container."""
    protection_keys: list[ProtectionKeys] = []
    settings: list[ThreadSettings] = []
    """Of threads; empty in artifacts of earlier releases."""
    programs: Annotated[list[Program], Field(max_length=MOST_PROGRAMS)] = []
    """That ran from memfds, in the order of their numbers in the images."""
    eventfds: Annotated[list[Eventfd], Field(max_length=MOST_EVENTFDS)] = []
    """That a restore gives to criu; all others are in the images."""
    record_locks: bool = False
    """Whether they had any: criu loses those of files that are mapped too."""
    databases: Annotated[list[Database], Field(max_length=MOST_DATABASES)] = []
    shared: Annotated[int, Field(ge=0)] = 0
    """Bytes of private memory that its processes shared since a fork; 0 in artifacts of earlier releases."""
    huge: Annotated[int, Field(ge=0)] = 0
    """Bytes of huge pages, at least; 0 in artifacts of earlier releases."""


class Connections(Part):
    """What became of the worker's TCP connections."""

    kept: Annotated[int, Field(ge=0)]
    """Those that a restore brings back: both ends are in the tree, or what the other one sent is yet to be read."""
    closed: Annotated[int, Field(ge=0)] = 0
    peers: Annotated[list[str], Field(max_length=16)] = []
    """Some of those that the closed ones led to."""
    addresses: list[str] = []
    """Those of the pod that sockets are bound to: a restore puts its own pod's in their place."""
