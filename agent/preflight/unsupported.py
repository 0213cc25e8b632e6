"""What criu cannot carry of its own accord: kinds of descriptors, sockets and memory.

Each was tried on a real worker: without the check criu fails after the worker was frozen, or the state is lost without
a word.
"""

import os
import re
import signal
from collections.abc import Collection, Iterator, Sequence
from typing import Final

from agent.preflight.facts import SECRETMEM, Process, Tree
from artifact.parts.process import MOST_EVENTFDS, MOST_PROGRAM_BYTES, MOST_PROGRAMS
from linux.anonymous import Anonymous
from linux.descriptors import FANOTIFY, INOTIFY, MEMFD, Descriptor
from linux.ptrace.sandboxes import can_be_asked

_LENDS_CALLS: Final = can_be_asked()
_KNOWN_ANONYMOUS: Final = frozenset(
    {"eventfd", "eventpoll", "fanotify", "inotify", "io_uring", "pidfd", "signalfd", "timerfd"}
)
"""All that criu knows, and io_uring, which has a reason of its own."""
_NO_ANONYMOUS: Final = {
    "bpf": "an eBPF map, program or link",
    "landlock": "a Landlock rule set",
    "perf_event": "a performance counter",
    "userfaultfd": "a userfaultfd",
    "kvm": "a virtual machine of KVM",
    "seccomp notify": "the listener of a seccomp filter",
}
"""Beginnings of the names of anonymous inodes, brackets left out."""
_DEVICES: Final = ("null", "zero", "full", "random", "urandom", "tty", "ptmx", "console")
_TERMINALS: Final = ("/dev/pts/", "/dev/ptmx", "/dev/tty", "/dev/console")
_GPU: Final = "/dev/nvidia"
_DEVICE_FOLDERS: Final = ("/dev/pts/", _GPU, "/dev/dri/")
"""Terminals, and GPUs: the driver closes its own devices before the dump."""
_PRESSURE: Final = re.compile(r"/proc/pressure/\w+|/sys/fs/cgroup/(.*/)?\w+\.pressure")
"""What is written there waits for pressure on memory, processors or disks as long as the file is open."""
_OF_A_THREAD: Final = re.compile(r"/proc/(\d+)/task/(\d+)(?:/|$)")
"""criu opens files before it has made the threads that are not the first of their processes."""
_PROTOCOLS: Final = ("TCP", "UDP", "RAW", "UNIX", "NETLINK", "PACKET", "PING")
"""Beginnings of names as the kernel gives them: TCPv6, UDP-Lite, UNIX-STREAM."""

_DELETED: Final = " (deleted)"
LONGEST_NAME: Final = 255 - len(".cr.ffffffff.ghost")
"""Bytes of a deleted file's name: criu makes it once more under its name with this behind it."""
LONGEST_GROUPS: Final = 4096 - 16
"""Bytes of their numbers in /proc/PID/status: criu reads lines of up to a page, and the name of this one is in it."""
NEEDED_DESCRIPTORS: Final = 8
"""That a process must be able to open for criu to work in it: with two criu failed, and with one it ended the process;
three were enough in a process of one thread."""
_SHOWN_GROUPS: Final = 4


def named(process: Process, descriptor: Descriptor) -> str:
    """Return how a finding names a descriptor."""
    if descriptor.is_on_its_way:
        return f"a descriptor that waits in descriptor {descriptor.number} of {process}"
    return f"descriptor {descriptor.number} of {process}"


def as_text(name: str) -> str:
    """Return a name as it can be shown; another one than it is if that is not UTF-8."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def unsupported_descriptors(tree: Tree) -> Iterator[str]:
    """Find descriptors of kinds that criu does not know."""
    # Those of the driver are closed before the dump, whatever it calls them.
    mounted = {mount.number for mount in tree.mounts}
    with_gpu = {process.pid for process, each in tree.open_files() if each.target.startswith(_GPU)}
    for process, descriptor in _but_plain_sockets(tree):
        what = _unsupported(descriptor)
        if descriptor.anonymous is not None and not descriptor.is_handle:
            what = _unsupported_anonymous(descriptor.anonymous, tree.pids, has_gpu=process.pid in with_gpu)
        if (process.pid, descriptor.number) in tree.lost_targets:
            what = "an epoll descriptor that watches a file which only another process has open"
        if tree.goes_on and descriptor.is_leased:
            what = "a file with a lease (F_SETLEASE), which saving it would break while the worker goes on"
        if (process.pid, descriptor.number) in tree.signals_threads:
            what = "a file that signals one thread of a process (F_SETOWN_EX)"
        if process.pid not in with_gpu and _is_nowhere(descriptor, mounted):
            what = f"{descriptor.target}, a file of a mount that the container does not have (any more)"
        if descriptor.is_on_its_way:
            what = what or _lost_on_its_way(descriptor)
        if what:
            yield f"{named(process, descriptor)} is {what}"
    for process, descriptor in tree.hiding:
        yield f"in {named(process, descriptor)} more descriptors wait than can be seen"


def locks_that_stay_lost(tree: Tree) -> Iterator[str]:
    """Find record locks that criu loses, on machines on which no process can be lent a call to take them again."""
    for process in tree.processes:
        if process.loses_locks and not _LENDS_CALLS:
            words = "has a record lock of a file that it has mapped too, which only processes of x86-64 can take again"
            yield f"{process} {words}"
    yield from _too_many_eventfds(tree)


def _but_plain_sockets(tree: Tree) -> Sequence[tuple[Process, Descriptor]]:
    """Leave out sockets, of which it only matters here whether they wait or signal: there may be ten thousand."""
    if tree.signals_threads:
        return tree.open_files()
    return [each for each in tree.open_files() if not each[1].protocol or each[1].is_on_its_way]


def _too_many_eventfds(tree: Tree) -> Iterator[str]:
    """Find more eventfds that a restore gives to criu than an artifact takes."""
    opened = (descriptor.anonymous for _, descriptor in tree.open_files())
    special = {each.identity for each in opened if each is not None and each.is_special}
    if len(special) > MOST_EVENTFDS:
        words = f"the worker has {len(special)} eventfds that are semaphores or hold more than 32 bits"
        yield f"{words}: at most {MOST_EVENTFDS} are kept"


def _lost_on_its_way(descriptor: Descriptor) -> str | None:
    """Say of what kind a descriptor is that criu restores where it is open, and not where it waits."""
    if descriptor.protocol and not descriptor.protocol.startswith("UNIX"):
        return f"a socket of protocol {descriptor.protocol}"
    if descriptor.anonymous is not None and descriptor.anonymous.kind != "eventfd":
        return f"of the kind {descriptor.anonymous.kind}"
    if descriptor.anonymous is not None and descriptor.anonymous.is_special:
        return "an eventfd that is a semaphore (EFD_SEMAPHORE), or holds more than 32 bits"
    return "inotify or fanotify" if descriptor.target in (INOTIFY, FANOTIFY) else None


def _unsupported_anonymous(found: Anonymous, pids: Collection[int], *, has_gpu: bool) -> str | None:
    if found.wakes_machine:
        return "a timer that wakes the machine (CLOCK_REALTIME_ALARM, CLOCK_BOOTTIME_ALARM)"
    if found.is_of_thread or (found.process and found.process not in pids):
        return "a pidfd of a thread" if found.is_of_thread else "a pidfd of a process outside of the worker"
    known = has_gpu or found.kind in _KNOWN_ANONYMOUS
    unknown = (words for start, words in _NO_ANONYMOUS.items() if found.kind.startswith(start))
    return next(unknown, None if known else f"of the kind {found.kind}")


def _is_nowhere(descriptor: Descriptor, mounted: Collection[int]) -> bool:
    """Say whether criu would not find the mount of a file; of memory and of terminals it asks for none."""
    is_asked = descriptor.mount and not descriptor.target.startswith((MEMFD, SECRETMEM, *_TERMINALS))
    return bool(is_asked) and descriptor.mount not in mounted


def _unsupported(descriptor: Descriptor) -> str | None:
    target = descriptor.target
    if descriptor.target in (INOTIFY, FANOTIFY):
        return _unsupported_watch(descriptor)
    if descriptor.is_handle:
        return "open only as a path (O_PATH), and no file or folder"
    if descriptor.is_packet_pipe:
        return "a pipe that keeps packets apart (O_DIRECT)"
    if descriptor.is_huge:
        return "a memfd of huge pages"
    is_known = target.removeprefix("/dev/") in _DEVICES or target.startswith(_DEVICE_FOLDERS)
    if descriptor.is_device and not is_known:
        return f"the device {target}"
    return _unsupported_in_proc(descriptor)


def _unsupported_watch(descriptor: Descriptor) -> str | None:
    if descriptor.decides:
        return "fanotify that decides about what is opened (FAN_CLASS_CONTENT)"
    return "a watch on files of the kernel's, as those of /proc and /sys are" if descriptor.watches_kernel else None


def _unsupported_in_proc(descriptor: Descriptor) -> str | None:
    target = descriptor.target
    if (thread := _OF_A_THREAD.match(target)) and thread[1] != thread[2]:
        return f"{target}, a file of one thread"
    return f"a trigger at {target}" if descriptor.is_own_file and _PRESSURE.fullmatch(target) else None


def unsupported_sockets(tree: Tree) -> Iterator[str]:
    """Find sockets of protocols that criu does not know."""
    odd = tree.odd_sockets
    for process, descriptor in tree.open_files():
        if descriptor.protocol and not descriptor.protocol.startswith(_PROTOCOLS):
            yield f"{named(process, descriptor)} is a socket of protocol {descriptor.protocol}"
        if odd and (what := odd.get((process.pid, descriptor.number))):
            yield f"{named(process, descriptor)} is {what}"
    yield from _in_a_state(tree)
    yield from _multicast(tree)
    yield from _sent_before_it_was_accepted(tree)
    yield from _closed_before_it_was_accepted(tree)


def _in_a_state(tree: Tree) -> Iterator[str]:
    if (
        not tree.unread_netlink and not tree.moved_sockets and not tree.signed_sockets
    ):  # a worker may have ten thousand sockets
        return
    for socket, process, descriptor in tree.open_sockets:
        if socket in tree.unread_netlink:
            yield f"{named(process, descriptor)} is a netlink socket with messages that were not read"
        if socket in tree.signed_sockets:
            yield f"{named(process, descriptor)} is a Unix socket with unread data that says who sent it, or when"
        if socket in tree.moved_sockets:
            yield f"{named(process, descriptor)} is a Unix socket that {tree.moved_sockets[socket]}"


def _multicast(tree: Tree) -> Iterator[str]:
    if not tree.multicast_groups:
        return
    udp = {each.inode for each in tree.sockets if each.protocol == "UDP"}
    member = next(((p, d) for inode, p, d in tree.open_sockets if inode in udp), None)
    if member is not None:
        groups = ", ".join(tree.multicast_groups[:_SHOWN_GROUPS])
        yield f"{named(*member)} is a UDP socket, and sockets of the pod are in multicast groups: {groups}"


def _closed_before_it_was_accepted(tree: Tree) -> Iterator[str]:
    """Find what criu refuses after the freeze: the kernel gives 0 for the number of such a client."""
    abandoned = {listener.inode for listener in tree.unix_sockets if 0 in listener.waiting}
    for inode, process, descriptor in tree.open_sockets if abandoned else ():
        if inode in abandoned:
            yield f"{named(process, descriptor)} has a Unix connection that its client closed before it was accepted"


def _sent_before_it_was_accepted(tree: Tree) -> Iterator[str]:
    """Find what criu refuses after the freeze: a connection may wait in a backlog, data that was sent by it may not."""
    waiting = {inode for listener in tree.unix_sockets for inode in listener.waiting}
    ahead = {each.inode for each in tree.unix_sockets if each.sent and each.inode in waiting}
    if not ahead:
        return
    for inode, process, descriptor in tree.open_sockets:
        if inode in ahead:
            yield f"{named(process, descriptor)} has sent data by a Unix socket that is not accepted yet"


def unsupported_memory(tree: Tree) -> Iterator[str]:
    """Find memory that criu cannot dump, or not restore as it was."""
    for process in tree.processes:
        if process.has_secret_memory or any(each.target == SECRETMEM for each in process.descriptors):
            yield f"{process} has secret memory (memfd_secret)"
        if process.shares_memory:
            yield f"{process} has its parent's memory for its own (vfork, or CLONE_VM)"
        if process.lacks_vdso:
            yield f"{process} has unmapped the kernel's code (vdso) without its data (vvar), or may not run it"
        for descriptor in process.descriptors:
            if descriptor.sealed_inode and descriptor.sealed_inode in process.mapped_memfds:
                yield f"{named(process, descriptor)} is a memfd that is mapped and sealed against writing"
    yield from _untaken_programs(tree)


def _untaken_programs(tree: Tree) -> Iterator[str]:
    """Find programs in memfds that an artifact does not take: too many, or of a name that is no text."""
    sizes: dict[int, int] = {}
    for process in tree.processes:
        if (program := process.memfd_program) is None:
            continue
        sizes[program.inode] = program.bytes
        if (shown := as_text(program.name)) != program.name:
            yield f"{process} runs {shown} from a memfd, a name that is not UTF-8"
    size = sum(sizes.values())
    if len(sizes) > MOST_PROGRAMS or size > MOST_PROGRAM_BYTES:
        most = f"at most {MOST_PROGRAMS} of {MOST_PROGRAM_BYTES >> 20} MiB are kept"
        yield f"its processes run {len(sizes)} programs of {size >> 20} MiB from memfds: {most}"


def long_names(tree: Tree) -> Iterator[str]:
    """Find deleted files at whose names criu cannot make others for a moment: it adds to the name."""
    opened = {each.target for _, each in tree.open_files() if each.deleted and not each.target.startswith(MEMFD)}
    mapped = {path for process in tree.processes for path, _ in process.unlinked}
    for path in sorted(mapped | {target.removesuffix(_DELETED) for target in opened}):
        if len(os.fsencode(path.rpartition("/")[2])) > LONGEST_NAME:
            yield f"{path} was deleted, and its name has more than {LONGEST_NAME} bytes"


_RUNSVDIR: Final = "runsvdir"
"""Looks every five seconds whether the folder of a service is still the one that it started, by device and inode. No
restored container has the former ones: it sends the services of the former ones SIGTERM, and starts new ones."""


_STOP_WITH_CHILD: Final = ("script", "scriptlive", "su", "runuser")
"""Of util-linux: with a pseudo-terminal they stop themselves when they hear that their child was stopped by SIGSTOP."""
_PTMX: Final = ("/dev/ptmx", "/dev/pts/ptmx")


def unsupported_processes(tree: Tree) -> Iterator[str]:
    """Find processes that criu starts in another way than they were started in, or cannot enter, or that end others."""
    for process in tree.processes:
        if process.shares_folder:
            yield f"{process} has its parent's working folder for its own (CLONE_FS)"
        if process.exit_signal != signal.SIGCHLD:
            yield f"{process} sends signal {process.exit_signal} when it ends, and not SIGCHLD"
        if process.groups_bytes > LONGEST_GROUPS:
            yield f"{process} is in more groups than CRIU can read"
        free = process.free_descriptors
        if free is not None and free < NEEDED_DESCRIPTORS:
            yield f"{process} may open {free} more descriptors, and CRIU needs {NEEDED_DESCRIPTORS} (RLIMIT_NOFILE)"
        yield from (f"{process} {words}" for words in process.cramped)
        if process.name == _RUNSVDIR:
            yield f"{process} of runit would end its services after a restore, as their folders have other inodes then"
        if process.name in _STOP_WITH_CHILD and any(each.target in _PTMX for each in process.descriptors):
            yield f"{process} stops itself for good when its child is stopped, as it is by a capture and by a restore"
