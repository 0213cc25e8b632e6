"""Processes, their mounts and their files, read from /proc."""

import ctypes
import os
import platform
import re
import signal
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cmp_to_key
from itertools import pairwise
from pathlib import Path
from typing import Final

from linux.syscalls import LIBC

PROC: Final = Path("/proc")
_PART: Final = 16 << 10
"""Bytes; a file of one process or thread has fewer, but for one in thousands of groups."""
_NSPID: Final = re.compile(rb"^NSpid:.*\b(\d+)$", re.MULTILINE)
_ESCAPE: Final = re.compile(r"\\([0-7]{3})")
_SMAPS_LINE: Final = re.compile(r"^(\w+): +([0-9]+) kB$", re.MULTILINE)
CAPABILITY_SETS: Final = ("CapPrm", "CapEff", "CapInh", "CapAmb", "CapBnd")

_SYS_KCMP: Final = {"x86_64": 312, "aarch64": 272}.get(platform.machine())
_KCMP_FILE, _KCMP_VM, _KCMP_FILES, _KCMP_FS, _KCMP_SEMAPHORES, _KCMP_POLLED = 0, 1, 2, 3, 6, 7
_STARTED: Final = 19
"""Number of a field in /proc/PID/stat, counted from the one behind the name: its 22nd."""
_EXIT_SIGNAL: Final = 35
"""The same of the 38th."""
_EXITING: Final = 0x4
"""Among the flags of a task in /proc/PID/stat."""


_SIGKILL: Final = 1 << (signal.SIGKILL - 1)
"""Among the signals that wait for a task, in /proc/PID/status."""


@dataclass(frozen=True)
class Mount:
    """One line of mountinfo."""

    point: str
    root: str
    fstype: str
    source: str
    options: str
    """The super block's: overlay's layers, a tmpfs's size."""
    number: int = 0
    """As fdinfo names it."""
    device: int = 0
    """Of its files, as stat numbers it."""
    is_read_only: bool = False
    """By this mount, whatever the file system allows."""
    is_received: bool = False
    """It came from another mount namespace, by propagation."""

    def option(self, name: str) -> str | None:
        """Return the value of a ``name=value`` option."""
        prefix = name + "="
        return next((o.removeprefix(prefix) for o in self.options.split(",") if o.startswith(prefix)), None)


@dataclass(frozen=True)
class Status:
    """What /proc/PID/status says that matters here."""

    pid: int
    inner_pid: int
    """As numbered in its own pid namespace."""
    inner_session: int
    parent: int
    state: str
    uid: int
    gid: int
    groups: frozenset[int]
    capabilities: Mapping[str, int]
    no_new_privileges: bool
    seccomp: int
    tracer: int = 0
    """Of a process that is traced, by a debugger for example; 0 without."""
    huge: int = 0
    """Bytes of huge pages that it has mapped and used."""
    users: frozenset[int] = frozenset()
    """Real, effective, saved, and that of files."""
    user_groups: frozenset[int] = frozenset()
    threads: int = 1
    awaited_signals: int = 0
    """Those that the process catches and those that its first thread blocks, as the kernel writes them."""
    depth: int = 1
    """How many pid namespaces it is in, from that of this /proc inwards."""


def mounts(pid: int, proc: Path = PROC) -> list[Mount]:
    """Read the mounts that a process sees, in mount order."""
    return parse_mountinfo((proc / str(pid) / "mountinfo").read_text(encoding="utf-8", errors="surrogateescape"))


def parse_mountinfo(text: str) -> list[Mount]:
    """Parse the lines of mountinfo."""
    found = []
    for line in text.splitlines():
        before, _, after = line.partition(" - ")
        fields, tail = before.split(" "), after.split(" ")
        major, _, minor = fields[2].partition(":")
        device = os.makedev(int(major), int(minor))
        names = _plain(fields[4]), _plain(fields[3]), tail[0], _plain(tail[1]), _plain(tail[2])
        read_only = "ro" in fields[5].split(",")
        received = any(field.startswith("master:") for field in fields[6:])
        found.append(Mount(*names, number=int(fields[0]), device=device, is_read_only=read_only, is_received=received))
    return found


def _plain(field: str) -> str:
    return _ESCAPE.sub(lambda match: chr(int(match[1], 8)), field)


def mount_of(path: str, mounted: list[Mount]) -> Mount | None:
    """Return the mount that a path is on; of two on the same point, the later covers the earlier."""
    fitting = [m for m in mounted if path == m.point or path.startswith(m.point.rstrip("/") + "/")]
    return max(reversed(fitting), key=lambda m: len(m.point), default=None)


def read_plainly(path: str) -> bytes:
    """Return a file of /proc that the kernel makes in one piece, by as few calls as there can be.

    A worker may have a thousand threads, each with files of its own. Of one piece less is read than was asked for at
    its end alone.

    Raises:
        OSError: it is not there any more, or cannot be read.
    """
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        content = part = os.read(file, _PART)
        while len(part) == _PART:
            part = os.read(file, _PART)
            content += part
        return content
    finally:
        os.close(file)


def status(pid: int, proc: Path = PROC) -> Status:
    """Read the status of a process.

    Raises:
        FileNotFoundError, ProcessLookupError: it has ended.
    """
    return parse_status((proc / str(pid) / "status").read_text(encoding="utf-8", errors="replace"))


def environment(pid: int, proc: Path = PROC) -> dict[str, str]:
    """Return the variables that a process's program was started with; what is no UTF-8 as ``os.environ`` has it.

    Raises:
        OSError: it has ended.
    """
    text = (proc / str(pid) / "environ").read_bytes().decode("utf-8", "surrogateescape")
    found = (entry.partition("=") for entry in text.split("\0"))
    return {name: value for name, equals, value in found if equals}


def parse_status(text: str) -> Status:
    """Parse the text of /proc/PID/status."""
    fields = dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)
    return Status(
        pid=int(fields["Pid"]),
        inner_pid=int(fields["NSpid"].split()[-1]),
        inner_session=int(fields["NSsid"].split()[-1]),
        parent=int(fields["PPid"]),
        state=fields["State"][:1],
        uid=int(fields["Uid"].split()[1]),
        gid=int(fields["Gid"].split()[1]),
        groups=frozenset(int(group) for group in fields["Groups"].split()),
        capabilities={name: int(fields[name], 16) for name in CAPABILITY_SETS},
        no_new_privileges=fields.get("NoNewPrivs", "0") == "1",
        seccomp=int(fields.get("Seccomp", "0")),
        tracer=int(fields.get("TracerPid", "0")),
        huge=int(fields.get("HugetlbPages", "0").split()[0]) << 10,
        users=frozenset(int(each) for each in fields["Uid"].split()),
        user_groups=frozenset(int(each) for each in fields["Gid"].split()),
        threads=int(fields.get("Threads", "1")),
        awaited_signals=int(fields.get("SigCgt", "0"), 16) | int(fields.get("SigBlk", "0"), 16),
        depth=len(fields["NSpid"].split()),
    )


def memory_sums(pid: int, proc: Path = PROC) -> dict[str, int]:
    """Read the sums over all mappings of a process in bytes, by the kernel's names: Rss, Pss, Anonymous, ...

    Raises:
        FileNotFoundError, ProcessLookupError: it has ended.
    """
    text = (proc / str(pid) / "smaps_rollup").read_text()
    return {match[1]: int(match[2]) << 10 for match in _SMAPS_LINE.finditer(text)}


def is_alive(pid: int, proc: Path = PROC) -> bool:
    """Say whether a process, or a thread by its id, is there and runs or may run: a zombie may not."""
    with suppress(OSError):
        text = (proc / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
        return text.rpartition(") ")[2][0] not in "ZX"
    return False


def started(pid: int, proc: Path = PROC) -> int:
    """Return when a process was started, in ticks of a clock since boot: numbers of processes begin again some day.

    Raises:
        FileNotFoundError, ProcessLookupError: it has ended.
    """
    text = (proc / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    return int(text.rpartition(") ")[2].split()[_STARTED])


def exit_signal(pid: int, proc: Path = PROC) -> int:
    """Return the signal that a process's parent is sent when it ends; 0 if none is.

    Raises:
        FileNotFoundError, ProcessLookupError: it has ended.
    """
    text = (proc / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    return int(text.rpartition(") ")[2].split()[_EXIT_SIGNAL])


def pids(proc: Path = PROC) -> Iterator[int]:
    """Return all processes."""
    return (int(name) for name in os.listdir(proc) if name.isdecimal())  # noqa: PTH208 - a worker's thousand threads


def namespace_mates(pid: int, proc: Path = PROC, among: Iterable[int] | None = None) -> dict[int, Status]:
    """Return all live processes in the pid namespace of ``pid``, itself among them, by host pid.

    Args:
        pid: one of them.
        proc: /proc of the node.
        among: where to look for them; default: all processes of the node, which take a moment if they are thousands.
    """
    own = str((proc / str(pid) / "ns/pid").readlink())
    found = {}
    for other in pids(proc) if among is None else among:
        try:
            if os.readlink(f"{proc}/{other}/ns/pid") == own:  # noqa: PTH115 - of every process of the node
                found[other] = status(other, proc)
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
    return {number: mate for number, mate in found.items() if mate.state not in "ZX"}


def descendants(root: int, mates: Mapping[int, Status]) -> list[int]:
    """List the host pids of the children of ``root``, theirs, and so on, parents first."""
    children: dict[int, list[int]] = {}
    for mate in mates.values():
        children.setdefault(mate.parent, []).append(mate.pid)
    found, frontier = [], [root]
    while frontier:
        frontier = [child for parent in frontier for child in children.pop(parent, ())]
        found += frontier
    return found


def shares_memory(one: int, other: int) -> bool:
    """Say whether two processes have one address space, as after vfork(2), as far as this can be known."""
    return _compared(one, other, _KCMP_VM) == 0


def shares_descriptors(one: int, other: int) -> bool:
    """Say whether two threads have one table of descriptors, as far as this can be known."""
    return _compared(one, other, _KCMP_FILES) <= 0


def compare_polled(pid: int, number: int, slot: int) -> int:
    """Say whether an entry of an epoll descriptor is of that open file: 0 if it is, less if it cannot be known.

    Args:
        pid: the process that has both.
        number: of the open file.
        slot: address of a ``struct kcmp_epoll_slot``.
    """
    return _compared(pid, pid, _KCMP_POLLED, number, slot)


def open_files(descriptors: Iterable[tuple[int, int]]) -> int:
    """Say how many open files descriptors are of, each a process and a number; one if it cannot be known."""
    ordered = sorted(descriptors, key=cmp_to_key(_by_file))
    return bool(ordered) + sum(_by_file(one, other) != 0 for one, other in pairwise(ordered))


def _by_file(one: tuple[int, int], other: tuple[int, int]) -> int:
    """Order by an order of the kernel's own."""
    return {1: -1, 2: 1}.get(_compared(one[0], other[0], _KCMP_FILE, one[1], other[1]), 0)


def shares_folder(one: int, other: int) -> bool:
    """Say whether two threads have one working folder, root and umask, as far as this can be known."""
    return _compared(one, other, _KCMP_FS) <= 0


def shares_semaphore_undo(one: int, other: int) -> bool:
    """Say whether two threads have one list of what System V semaphores get back at their end, or both have none.

    Of a kernel that cannot be asked: yes.
    """
    return _compared(one, other, _KCMP_SEMAPHORES) <= 0


def _compared(one: int, other: int, what: int, first: int = 0, second: int = 0) -> int:
    """Return 0 if two tasks have the same, more if they do not, less if it cannot be known."""
    if _SYS_KCMP is None:
        return -1
    found: int = LIBC.syscall(_SYS_KCMP, one, other, what, ctypes.c_ulong(first), ctypes.c_ulong(second))
    return found


def is_exiting(pid: int, tid: int, proc: Path = PROC) -> bool:
    """Say whether a thread is on its way out, and has let go of what it had; of one that has ended too."""
    with suppress(OSError), open(f"{proc}/{pid}/task/{tid}/stat", "rb") as file:  # noqa: PTH123 - a thousand threads
        fields = file.read().rpartition(b") ")[2].split()
        return fields[0] in b"ZX" or bool(int(fields[6]) & _EXITING)
    return True


def is_ending(pid: int, tid: int, proc: Path = PROC) -> bool:
    """Say whether a thread is on its way out, or will be: one that was killed waits for a processor first."""
    with suppress(OSError, KeyError):
        text = (proc / str(pid) / "task" / str(tid) / "status").read_text(encoding="utf-8", errors="replace")
        pending = dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)["SigPnd"]
        return bool(int(pending, 16) & _SIGKILL) or is_exiting(pid, tid, proc)
    return True


def inner_thread_ids(pid: int, proc: Path = PROC) -> list[int]:
    """Return the ids of a process's threads, as numbered inside its pid namespace."""
    tasks = proc / str(pid) / "task"
    return [inner_id(f"{tasks}/{tid}/status") for tid in pids(tasks)]


def inner_id(path: str) -> int:
    """Return the id of a process or thread, as numbered inside its pid namespace, given the path of its ``status``.

    Raises:
        OSError: it has ended.
    """
    with open(path, "rb") as file:  # noqa: PTH123 - a worker may have a thousand threads
        match = _NSPID.search(file.read())
    if match is None:
        raise ProcessLookupError(f"{path} has no NSpid")
    return int(match[1])


def _holds(pid: int, claim: os.stat_result, proc: Path) -> bool:
    directory = proc / str(pid) / "fd"
    for entry in directory.iterdir():
        try:
            found = entry.stat()
        except OSError:
            continue
        if (found.st_dev, found.st_ino) == (claim.st_dev, claim.st_ino):
            return True
    return False


def holds(pid: int, claim: os.stat_result, proc: Path = PROC) -> bool:
    """Say whether a live process has this very file open."""
    try:
        return _holds(pid, claim, proc)
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return False


def files_in_use(pid: int, proc: Path = PROC) -> set[str]:
    """Return the paths that a process has open, mapped, as its program, or as its directory; as it sees them."""
    base, found = f"{proc}/{pid}", set()
    for link in [f"{base}/cwd", f"{base}/exe", *_entries(f"{base}/fd"), *_entries(f"{base}/map_files")]:
        try:
            target = os.readlink(link)  # noqa: PTH115 - ten thousand paths take longer to make than to read
        except OSError:
            continue
        if target.startswith("/"):
            found.add(target.removesuffix(" (deleted)"))
    return found


def _entries(directory: str) -> list[str]:
    with suppress(OSError), os.scandir(directory) as entries:
        return [entry.path for entry in entries]
    return []
