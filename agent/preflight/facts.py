"""What the checks look at, read from /proc in one pass over the worker's tree."""

import os
import re
import resource
import signal
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Final, NamedTuple

from agent.container.confinement import has_module, label_of, profile_of
from agent.container.inspection import open_in_container
from agent.container.network import in_network
from agent.container.record_locks import has_lost_locks
from agent.preflight.copies import Where, hung_up, may_be_signalled, may_load_programs, odd_sockets, signals_threads
from agent.preflight.deleted import taken_names
from agent.preflight.ipc import Attached, IpcFacts, attached, read_facts
from agent.preflight.room import cramped
from agent.preflight.threads import apart, children_of, headless, policies
from agent.preflight.unix_facts import signed_sockets, waiting_descriptors
from agent.preflight.unix_names import moved_sockets
from linux.anonymous import EPOLL
from linux.descriptors import MEMFD, Descriptor, descriptors, memory_device
from linux.filetree import walk
from linux.mapped import unlinked_files
from linux.net.sockets import Address, BoundSocket, bound_sockets, multicast_groups, unread_netlink
from linux.net.unix_diag import UnixSocket, unix_sockets
from linux.polled import lost_targets
from linux.proc import PROC, Mount, exit_signal, is_alive, mounts, pids, shares_folder, shares_memory, status
from linux.ptrace.lent_call import VDSO

NAMESPACES: Final = ("cgroup", "ipc", "mnt", "net", "pid", "pid_for_children", "user", "uts")
CLOCKS: Final = ("time", "time_for_children")
"""Namespaces of clocks: of a worker that was restored they are not the container's, and of a kernel without there are
none."""
_VDSO: Final = re.compile(VDSO, re.MULTILINE)
_SHARED_WRITE: Final = re.compile(r"^\S+ \Sw\Ss \S+ \S+ \d+ +(/.*)$", re.MULTILINE)
_MEMFD: Final = re.compile(r"^\S+ \S+ \S+ \S+ (\d+) +/memfd:", re.MULTILINE)
SECRETMEM: Final = "/secretmem (deleted)"
IRMAP: Final = ("/", "/etc", "/var/spool", "/lib/udev")
"""Folders in which criu looks for what an inotify descriptor watches, if the file system cannot say (``irmap.c``); the
first without what is in it."""


class MemfdProgram(NamedTuple):
    """A program that runs from a memfd."""

    inode: int
    bytes: int
    name: str
    """As /proc shows it."""


@dataclass(frozen=True)
class Process:
    """One process of the tree."""

    pid: int
    """As the container numbers it."""
    name: str
    namespaces: Mapping[str, str]
    descriptors: tuple[Descriptor, ...]
    has_strangers: bool = False
    """A live child is in another pid namespace, and so not in the tree."""
    headless: tuple[int, ...] = ()
    """Children whose first thread has ended while others go on, as the container numbers them."""
    shared_writes: tuple[str, ...] = ()
    """Files that are mapped shared and writable, with or without a descriptor."""
    unlinked: tuple[tuple[str, int], ...] = ()
    """Path and bytes of files that are mapped and have no name any more."""
    memfd_program: MemfdProgram | None = None
    """Its program, if that is a memfd."""
    mapped_memfds: frozenset[int] = frozenset()
    """Inodes."""
    has_secret_memory: bool = False
    """memfd_secret."""
    lacks_vdso: bool = False
    """It has data of the kernel's (vvar) without the code (vdso(7)), or may not run that: criu looks for both."""
    shares_memory: bool = False
    """It has one address space with its parent, which is in the tree too."""
    shares_folder: bool = False
    """It has one working folder, root and umask with its parent, which is in the tree too."""
    exit_signal: int = signal.SIGCHLD
    """What its parent is sent when it ends; 0: nothing."""
    groups_bytes: int = 0
    """How long the line of /proc/PID/status is that has its groups."""
    free_descriptors: int | None = None
    """How many more it may open; None: not known."""
    may_load_programs: bool = False
    """Of eBPF."""
    may_be_signalled: bool = False
    """It has several threads, and awaits signals of descriptors."""
    cramped: tuple[str, ...] = ()
    """What else it has too little of for criu to work in it, in words."""
    tracer: int = 0
    """Of a process that is traced: by whom, as the node numbers it."""
    clocks: tuple[str, ...] = ()
    """Namespaces of its clocks, and of its children's."""
    apart: tuple[str, ...] = ()
    """What a thread of it has for itself, in words."""
    policies: frozenset[int] = frozenset()
    """By which its threads are scheduled, without SCHED_RESET_ON_FORK."""
    loses_locks: bool = False
    """A restore by criu alone would lose record locks of it."""
    attached: tuple[Attached, ...] = ()
    """Of System V memory."""
    label: str = ""
    """Profile of AppArmor, or context of SELinux; empty without. Of its threads, one that is not the container's."""

    def __str__(self) -> str:
        return f"process {self.pid} ({self.name})"


@dataclass(frozen=True)
class Tree:
    """The worker's processes, the root first, and what they share."""

    processes: tuple[Process, ...]
    namespaces: Mapping[str, str]
    """Of standby, and so of the container."""
    mounts: tuple[Mount, ...]
    sockets: tuple[BoundSocket, ...]
    empty_dirs: frozenset[str] = frozenset()
    """Mount points of the pod's emptyDirs."""
    writable_mounts: frozenset[str] = frozenset()
    """Mount points of volumes that the pod's owner says are safe to write to."""
    findable: frozenset[int] = frozenset()
    """Inodes of the image that criu finds by itself, if anything is watched."""
    multicast_groups: tuple[str, ...] = ()
    """That sockets of the pod have joined; no file of the kernel's says which."""
    own_addresses: frozenset[Address] = frozenset()
    """Of the pod, that a restore replaces by those of its own pod."""
    unix_sockets: tuple[UnixSocket, ...] = ()
    """Of the pod: those of other containers too."""
    label: str = ""
    """Of the container: what a security module confines it to."""
    profile: str = ""
    """The same, if a restore can bring a process under it."""
    allow_unconfined: bool = False
    """Whether a restore may leave out what a security module confines."""
    ipc: IpcFacts = field(default_factory=IpcFacts)
    """What is in the IPC namespace of the pod."""
    memory_device: str = ""
    """On which the kernel has all shared memory but that of huge pages, as /proc/PID/maps names it."""
    pids: frozenset[int] = frozenset()
    """Of the processes, as the node numbers them."""
    goes_on: bool = False
    """Whether the worker is to run on when it has been captured: no fact of the tree either."""
    unlinked_limit: int | None = None
    """Bytes that a file without a name may hold: no fact of the tree, but what criu copies."""
    moved_sockets: Mapping[int, str] = field(default_factory=dict)
    """Inode of a Unix socket whose file is not where it was bound, or not only there; in words."""
    renamed_sockets: Mapping[int, str] = field(default_factory=dict)
    """Inode of a Unix socket whose file has another name than it was bound to, and that name."""
    signed_sockets: frozenset[int] = frozenset()
    """Inodes of Unix sockets in which data waits that says who sent it, or when."""
    lost_targets: frozenset[tuple[int, int]] = frozenset()
    """Process (inside) and number of epoll descriptors that watch a file which only another process has open."""
    hung_up: Where = frozenset()
    """Masters of pseudo-terminals whose other end was closed."""
    odd_sockets: Mapping[tuple[int, int], str] = field(default_factory=dict)
    """Process (inside) and number of sockets that criu fails at or forgets something of, and what they are."""
    signals_threads: Where = frozenset()
    """Descriptors that signal another thread than a process's first."""
    made_mounts: tuple[Mount, ...] = ()
    """Those that the container's processes made."""
    unread_netlink: frozenset[int] = frozenset()
    """Inodes of the pod's netlink sockets that hold messages."""
    on_their_way: tuple[tuple[Process, Descriptor], ...] = ()
    """Descriptors that wait in Unix sockets, each with a process that has its socket."""
    hiding: tuple[tuple[Process, Descriptor], ...] = ()
    """Unix sockets in which more descriptors wait than can be seen."""
    taken_names: tuple[str, ...] = ()
    """Of deleted folders and files that cannot be made once more, in words."""

    def written(self) -> frozenset[str]:
        """Return the paths of files that are open or mapped for writing."""
        opened = {descriptor.target for _, descriptor in self.open_files() if descriptor.is_own_file}
        return frozenset(opened.union(*(process.shared_writes for process in self.processes)))

    def open_files(self) -> Sequence[tuple[Process, Descriptor]]:
        """Return each open file with the process that has it, or is to receive it."""
        return self._open_files

    @cached_property
    def _open_files(self) -> Sequence[tuple[Process, Descriptor]]:
        opened = tuple((process, descriptor) for process in self.processes for descriptor in process.descriptors)
        return opened + self.on_their_way

    @cached_property
    def watching(self) -> Sequence[tuple[Process, Descriptor]]:
        """Return what of them is inotify or fanotify and watches something."""
        return tuple(each for each in self._open_files if each[1].watches)

    @cached_property
    def open_sockets(self) -> Sequence[tuple[int, Process, Descriptor]]:
        """Inode, process and descriptor of each open socket: there may be ten thousand, and several checks look."""
        return tuple((socket, *each) for each in self._open_files if (socket := each[1].socket) is not None)


@dataclass(frozen=True)
class Terms:
    """What pod and node allow a capture; no facts of the tree."""

    empty_dirs: Iterable[str] = ()
    """Mount points of emptyDirs."""
    writable_mounts: Iterable[str] = ()
    """Mount points that may be written to."""
    own_addresses: Iterable[Address] = ()
    """Of the pod, that a restore replaces by those of its own pod."""
    allow_unconfined: bool = False
    """Whether a restore may leave out what a security module confines."""
    unlinked_limit: int | None = None
    """Bytes that a file without a name may hold; None: any."""
    goes_on: bool = False
    """Whether the worker is to run on when it has been captured."""
    restored_objects: Collection[tuple[str, int]] = ()
    """Kind and id of System V objects that a restore has made for this container."""


def read_tree(
    init_pid: int,
    pids: Iterable[int],
    terms: Terms = Terms(),
    proc: Path = PROC,
) -> Tree:
    """Read the facts of a tree; a process that ends meanwhile is left out.

    Args:
        init_pid: standby's, as the node numbers it.
        pids: the tree's, as the node numbers them, the root first.
        terms: of the capture.
        proc: /proc of the node.

    Raises:
        OSError: the root has ended.
    """
    root, *others = pids
    tree, base = frozenset((root, *others)), proc / str(init_pid)
    label = label_of(base)
    by_pid = {root: _process(root, tree, label, proc)}
    for pid in others:
        with suppress(OSError):
            by_pid[pid] = _process(pid, tree, label, proc)
    found = by_pid.values()
    unix = in_network(init_pid, _unix_sockets, proc)
    moved = moved_sockets(init_pid, by_pid, unix, proc)
    on_their_way, hiding = waiting_descriptors(by_pid, unix)
    watched = any(descriptor.watches for process in found for descriptor in process.descriptors)
    return Tree(
        processes=tuple(found),
        pids=tree,
        unread_netlink=frozenset(unread_netlink(init_pid, proc)),
        findable=frozenset(_findable(init_pid, proc)) if watched else frozenset(),
        namespaces=_namespaces(base),
        label=label,
        profile=profile_of(base),
        mounts=tuple(mounts(init_pid, proc)),
        sockets=tuple(bound_sockets(init_pid, proc)),
        multicast_groups=tuple(multicast_groups(init_pid, proc)),
        unix_sockets=unix,
        moved_sockets=moved.refused,
        renamed_sockets=moved.renamed,
        signed_sockets=signed_sockets(by_pid, unix),
        on_their_way=on_their_way,
        hiding=hiding,
        lost_targets=_lost_targets(by_pid, proc),
        hung_up=hung_up(by_pid),
        odd_sockets=odd_sockets(by_pid),
        signals_threads=signals_threads(by_pid),
        ipc=read_facts(init_pid, {pid: each.pid for pid, each in by_pid.items()}, terms.restored_objects, proc),
        memory_device=_memory_device(),
        empty_dirs=frozenset(terms.empty_dirs),
        writable_mounts=frozenset(terms.writable_mounts),
        own_addresses=frozenset(terms.own_addresses),
        allow_unconfined=terms.allow_unconfined,
        unlinked_limit=terms.unlinked_limit,
        goes_on=terms.goes_on,
        taken_names=tuple(taken_names(init_pid, by_pid, proc)),
    )


def _memory_device() -> str:
    device = memory_device()
    return f"{os.major(device):02x}:{os.minor(device):02x}"


def _unix_sockets() -> tuple[UnixSocket, ...]:
    return tuple(unix_sockets(queues=True))


def _lost_targets(by_pid: Mapping[int, Process], proc: Path) -> frozenset[tuple[int, int]]:
    """Look at what each epoll descriptor watches; criu asks one process of those that have inherited it."""
    lost: set[tuple[int, int]] = set()
    whole: set[int] = set()
    for pid, process in by_pid.items():
        numbers = [descriptor.number for descriptor in process.descriptors]
        for descriptor in process.descriptors:
            if descriptor.anonymous is None or descriptor.anonymous.kind != EPOLL:
                continue
            with suppress(OSError):
                if any(lost_targets(pid, descriptor.number, numbers, proc)):
                    lost.add((process.pid, descriptor.number))
                else:
                    whole.add(descriptor.number)
    return frozenset(each for each in lost if each[1] not in whole)


def _process(pid: int, tree: Collection[int], label: str, proc: Path) -> Process:
    base = proc / str(pid)
    namespaces, maps = _namespaces(base), (base / "maps").read_text(errors="surrogateescape")
    opened = tuple(descriptors(pid, proc))
    about, children = status(pid, proc), children_of(pid, proc)
    return Process(
        pid=about.inner_pid,
        name=(base / "comm").read_text(encoding="utf-8", errors="replace").rstrip("\n"),
        namespaces=namespaces,
        descriptors=opened,
        loses_locks=has_lost_locks(opened, maps),
        has_strangers=any(_is_elsewhere(child, namespaces["pid"], proc) for child in children),
        headless=headless(children, proc),
        shared_writes=tuple(sorted(set(_SHARED_WRITE.findall(maps)))),
        unlinked=tuple(unlinked_files(pid, maps, proc)),
        memfd_program=_memfd_program(base / "exe"),
        mapped_memfds=frozenset(int(inode) for inode in _MEMFD.findall(maps)),
        has_secret_memory=SECRETMEM in maps,
        lacks_vdso="[vvar" in maps and not _VDSO.search(maps),
        attached=attached(maps),
        clocks=_clocks(base),
        apart=apart(about, namespaces, proc),
        policies=policies(pid, proc),
        label=_label(base, label),
        tracer=about.tracer,
        shares_memory=about.parent in tree and shares_memory(pid, about.parent),
        shares_folder=about.parent in tree
        and shares_folder(pid, about.parent)
        and not shares_memory(pid, about.parent),
        exit_signal=exit_signal(pid, proc),
        groups_bytes=sum(len(f" {group}") for group in about.groups),
        free_descriptors=_free_descriptors(pid, opened),
        may_load_programs=may_load_programs(about, proc),
        may_be_signalled=may_be_signalled(about),
        cramped=tuple(cramped(pid, maps, proc)),
    )


def _memfd_program(program: Path) -> MemfdProgram | None:
    name = str(program.readlink())
    if not name.startswith(MEMFD):
        return None
    found = program.stat()
    return MemfdProgram(found.st_ino, found.st_size, name) if found.st_dev == memory_device() else None


def _free_descriptors(pid: int, opened: Iterable[Descriptor]) -> int | None:
    with suppress(OSError):
        limit, _ = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        return limit - sum(descriptor.number < limit for descriptor in opened)
    return None


def _label(base: Path, expected: str) -> str:
    """Return the label of a process's threads, or of them the first that is not the expected one."""
    first = label_of(base)
    if not has_module(base):  # a worker may have a thousand threads
        return first
    others = (label_of(base / "task" / str(number)) for number in pids(base / "task"))
    return next((label for label in (first, *others) if label != expected), first)


def _findable(init_pid: int, proc: Path) -> Iterator[int]:
    """Yield inodes; beneath the container's own root, as its folders may be links to anywhere."""
    for name in IRMAP:
        with suppress(OSError):
            folder = open_in_container(init_pid, name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW, proc)
            try:
                yield os.fstat(folder).st_ino
                if name != "/":
                    yield from (found.st_ino for _, found in walk(folder))
            finally:
                os.close(folder)


def _namespaces(base: Path) -> dict[str, str]:
    return {kind: str((base / "ns" / kind).readlink()) for kind in NAMESPACES}


def _clocks(base: Path) -> tuple[str, ...]:
    with suppress(FileNotFoundError):
        return tuple(str((base / "ns" / kind).readlink()) for kind in CLOCKS)
    return ()


def _is_elsewhere(pid: int, namespace: str, proc: Path) -> bool:
    """Say whether a process is alive in another pid namespace; of a zombie this cannot be read, and does not matter."""
    with suppress(OSError):
        return str((proc / str(pid) / "ns/pid").readlink()) != namespace and is_alive(pid, proc)
    return False
