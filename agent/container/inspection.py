"""What is true of a container and of this machine right now, read once, so that plans can be pure."""

import os
import platform
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent.container import find
from contract.nodes.node_facts import NodeFacts
from linux import syscalls
from linux.cgroup import cpu_limit, memory_headroom, memory_limit
from linux.huge_pages import free_huge_pages
from linux.proc import (
    PROC,
    Mount,
    Status,
    descendants,
    files_in_use,
    inner_thread_ids,
    memory_sums,
    mounts,
    namespace_mates,
    status,
)

# Instruction sets that programs choose code by at their start; flags of the kernel's own do not matter to them.
_ISA: Final = re.compile(
    r"(s?sse\w*|avx\w*|amx\w*|bmi\d|fma|f16c|v?aes|v?pclmulqdq|sha_ni|adx|movbe|popcnt|abm|rdrand|rdseed|erms|fsrm"
    r"|xsave\w*|gfni|rdpid|fsgsbase|clwb|clflushopt|movdir\w+|serialize|cx16|lahf_lm|asimd\w*|sve\w*|fphp|atomics)"
)


@dataclass(frozen=True)
class Inspection:
    """A container whose first process is standby."""

    init: Status
    mounts: tuple[Mount, ...]
    stdio: Mapping[int, str]
    """Standby's descriptors 0 to 2, as /proc names what they are: ``pipe:[123]``."""
    inner_ids: frozenset[int]
    """Ids of all threads in the pid namespace, as numbered inside; empty if they were not read."""
    cgroups: str
    """Text of /proc/PID/cgroup."""


@dataclass(frozen=True)
class Surroundings:
    """What a container is given: by its node, and by its limits."""

    node: NodeFacts
    headroom: int | None = None
    """Bytes that its memory limit leaves; None without a limit."""
    memory_limit: int | None = None
    """The container's own in bytes; None without one."""
    cpu_limit: float | None = None
    """CPUs; None without a limit."""
    huge_free: int | None = None
    """Bytes of huge pages that the node has left; None: not known."""


@dataclass(frozen=True)
class Worker:
    """The tree of processes that standby started in capture mode."""

    root: Status
    pids: tuple[int, ...]
    """Host pids, the root first."""
    inner_ids: tuple[int, ...]
    argv: tuple[str, ...]
    in_use: frozenset[str]
    """Paths that any of them has open or mapped."""
    resident: int
    """Bytes of memory, shared pages counted more than once."""
    huge: int = 0
    """Bytes of huge pages, at least: of the process with most of them, as processes may share them."""
    shared: int = 0
    """Bytes of private memory that processes still share since a fork: each has it, and it is there once."""


_FIRST_PROCESSOR: Final = 16 << 10
"""Characters of /proc/cpuinfo: several times what one processor takes, which was 1,300 of an AMD EPYC."""


def node_facts(criu: str, proc: Path = PROC) -> NodeFacts:
    """Describe this node, but for its GPUs.

    Instruction sets come from /proc/cpuinfo: what a kernel hides there it hides from programs, another node's can be
    compared as a set, and nothing has to run for it. ``criu cpuinfo check`` compares all of CPUID, and refuses
    processors that differ in nothing that a program chooses code by.
    """
    with (proc / "cpuinfo").open() as file:  # of hundreds of processors, which the kernel describes as they are read
        text = file.read(_FIRST_PROCESSOR)
    line = re.search(r"^(?:flags|Features)\s*:(.*)$", text, re.MULTILINE)
    model = re.search(r"^(?:model name|Processor)\s*:(.*)$", text, re.MULTILINE)
    return NodeFacts(
        architecture=platform.machine(),
        kernel=platform.release(),
        criu=criu,
        cpu_flags=frozenset(flag for flag in (line[1].split() if line else ()) if _ISA.fullmatch(flag)),
        cpu_model=" ".join(model[1].split()) if model else "",
    )


def surroundings(seen: Inspection, criu: str, cgroup_root: Path, proc: Path = PROC) -> Surroundings:
    """Describe what an inspected container is given."""
    return Surroundings(
        node_facts(criu, proc),
        headroom=memory_headroom(seen.cgroups, cgroup_root),
        memory_limit=memory_limit(seen.cgroups, cgroup_root),
        cpu_limit=cpu_limit(seen.cgroups, cgroup_root),
        huge_free=free_huge_pages(proc),
    )


def inspect(
    init_pid: int, proc: Path = PROC, among: Iterable[int] | None = None, *, with_ids: bool = True
) -> Inspection:
    """Look at a container.

    Args:
        init_pid: its first process.
        proc: /proc of the node.
        among: processes among which are all of the container's; default: all of the node's.
        with_ids: whether to read the ids of all threads, which a restore must find free: there may be thousands.

    Raises:
        OSError: it has ended.
    """
    mates = namespace_mates(init_pid, proc, among) if with_ids else ()
    ids = {number for pid in mates for number in _threads(pid, proc)}
    stdio = {}
    for number in range(3):
        with suppress(OSError):
            stdio[number] = str((proc / str(init_pid) / "fd" / str(number)).readlink())
    return Inspection(
        init=status(init_pid, proc),
        mounts=tuple(mounts(init_pid, proc)),
        stdio=stdio,
        inner_ids=frozenset(ids),
        cgroups=(proc / str(init_pid) / "cgroup").read_text(errors="surrogateescape"),
    )


def find_worker(init_pid: int, proc: Path = PROC) -> Worker | None:
    """Return the worker of a capture container; None if there is none (any more)."""
    mates = namespace_mates(init_pid, proc)
    root = find.worker_of(init_pid, mates)
    if root is None:
        return None
    pids = (root.pid, *descendants(root.pid, mates))
    argv = (proc / str(root.pid) / "cmdline").read_bytes().rstrip(b"\0").split(b"\0")
    return Worker(
        root=root,
        pids=pids,
        inner_ids=tuple(number for pid in pids for number in _threads(pid, proc)),
        argv=tuple(part.decode("utf-8", "replace") for part in argv),
        in_use=frozenset(path for pid in pids for path in files_in_use(pid, proc)),
        resident=sum(_resident(pid, proc) for pid in pids),
        huge=max(mates[pid].huge for pid in pids),
        shared=_shared_since_fork(pids, proc),
    )


def _resident(pid: int, proc: Path) -> int:
    with suppress(FileNotFoundError, ProcessLookupError):
        return int((proc / str(pid) / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return 0


def _shared_since_fork(pids: Sequence[int], proc: Path) -> int:
    """Add up what each process has of private memory beyond its share of it."""
    if len(pids) == 1:
        return 0
    beyond = 0
    for pid in pids:
        with suppress(FileNotFoundError, ProcessLookupError):
            sizes = memory_sums(pid, proc)
            beyond += sizes["Anonymous"] - sizes["Pss_Anon"]
    return max(0, beyond)


def _threads(pid: int, proc: Path) -> list[int]:
    with suppress(FileNotFoundError, ProcessLookupError):
        return inner_thread_ids(pid, proc)
    return []


def open_in_container(init_pid: int, path: str, flags: int = os.O_PATH | os.O_DIRECTORY, proc: Path = PROC) -> int:
    """Open a directory as the container sees it, its links resolved in its own root.

    Raises:
        OSError: it is not there.
    """
    return syscalls.open_in_root_of(init_pid, path, flags, str(proc))
