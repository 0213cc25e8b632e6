"""The checks: each looks at a tree of processes and says what of it a capture would lose, or a restore not find.

Pure. A finding is a refusal: nothing has been touched, and the next start of the worker would end the same way.
"""

import re
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from agent.container.files.volumes import is_empty_dir
from agent.errors import RefusedError
from agent.preflight.facts import Tree
from agent.preflight.ipc import sysv_ipc
from agent.preflight.message_queues import posix_queues
from agent.preflight.threads import without_first_thread
from agent.preflight.unsupported import (
    locks_that_stay_lost,
    long_names,
    named,
    unsupported_descriptors,
    unsupported_memory,
    unsupported_processes,
    unsupported_sockets,
)
from contract.api.states import AgentReason
from linux.descriptors import FANOTIFY, Descriptor
from linux.proc import Mount, mount_of

_IO_URING: Final = "anon_inode:[io_uring]"
_OWN_TERMINAL: Final = "/dev/tty"
_OF_KUBELET: Final = re.compile(r"/pods/[^/]+/(containers|etc-hosts)(/|$)")
"""Files that kubelet mounts by themselves: the termination log, /etc/hosts."""
_OF_THE_CONTAINER: Final = frozenset(
    {"cgroup", "cgroup2", "devpts", "devtmpfs", "hugetlbfs", "mqueue", "proc", "ramfs", "sysfs", "tmpfs"}
)
"""File systems whose files end with the container, or travel with it."""


class Finding(NamedTuple):
    """Something that is in the way, and where."""

    reason: AgentReason
    words: str


def findings(tree: Tree) -> list[Finding]:
    """Return all that is in the way of a capture, in the order of the checks."""
    return [Finding(reason, words) for reason, check in CHECKS for words in check(tree)]


def refuse(found: list[Finding]) -> None:
    """Refuse if anything was found.

    Raises:
        RefusedError: with the first finding's reason, and the words of all.
    """
    if not found:
        return
    (reason, words), *others = found
    also = "".join(f"; also {each.reason}: {each.words}" for each in others[:_SHOWN])
    more = f"; and {len(others) - _SHOWN} more" if len(others) > _SHOWN else ""
    raise RefusedError(reason, f"{words}{also}{more}")


_SHOWN: Final = 4
"""Findings beside the first: a message is a line of ``kubectl describe``."""


def _io_uring(tree: Tree) -> Iterator[str]:
    for process, descriptor in tree.open_files():
        if descriptor.target == _IO_URING:
            yield f"{named(process, descriptor)} is an io_uring"


def _pseudo_terminal(tree: Tree) -> Iterator[str]:
    for process, descriptor in tree.open_files():
        if descriptor.target == _OWN_TERMINAL:
            yield f"{named(process, descriptor)} is {_OWN_TERMINAL}, of a terminal that the worker made"
        if (process.pid, descriptor.number) in tree.hung_up:
            yield f"{named(process, descriptor)} is of a terminal that the worker made, whose other end was closed"


def _nested_namespaces(tree: Tree) -> Iterator[str]:
    root = tree.namespaces
    for process in tree.processes:
        own = process.namespaces
        kinds = [kind for kind in own if own[kind] != root[kind] and kind != "pid_for_children"]
        if own["pid_for_children"] != root["pid"]:
            kinds.append("pid")
        if set(process.clocks) - set(tree.processes[0].clocks[:1]):
            kinds.append("time")
        if kinds:
            yield f"{process} has its own namespaces: {', '.join(kinds)}"
        elif process.has_strangers:
            yield f"a child of {process} is in a pid namespace of its own"


def _thread_apart(tree: Tree) -> Iterator[str]:
    for process in tree.processes:
        if process.apart:
            yield f"a thread of {process} has for itself: {', '.join(process.apart)}"
        yield from map(without_first_thread, process.headless)


def _scheduling(tree: Tree) -> Iterator[str]:
    for process in tree.processes:
        for policy in sorted(process.policies & _POLICIES.keys()):
            yield f"a thread of {process} is scheduled by {_POLICIES[policy]}"


_POLICIES: Final = {6: "SCHED_DEADLINE", 7: "SCHED_EXT"}
"""From linux/sched.h. criu restores those below; these have more than a priority."""


def _inotify_overlay(tree: Tree) -> Iterator[str]:
    devices = {mount.device for mount in tree.mounts if mount.fstype == "overlay"}
    for process, descriptor in tree.watching:
        if any(device in devices and inode not in tree.findable for device, inode in descriptor.watches):
            yield f"{named(process, descriptor)} watches files of the image by {_way(descriptor)}"


def _inotify_deleted(tree: Tree) -> Iterator[str]:
    if not tree.watching:
        return
    deleted = {descriptor.deleted: descriptor.target for _, descriptor in tree.open_files() if descriptor.deleted}
    for process, descriptor in tree.watching:
        for target in (deleted[watch] for watch in descriptor.watches if watch in deleted):
            yield f"{named(process, descriptor)} watches {target} by {_way(descriptor)}"


def _way(watching: Descriptor) -> str:
    return "fanotify" if watching.target == FANOTIFY else "inotify"


def _volume_written(tree: Tree) -> Iterator[str]:
    mounted = list(tree.mounts)
    by_number = {mount.number: mount for mount in mounted}
    for process, descriptor in tree.open_files():
        mount = by_number.get(descriptor.mount)
        if mount is None or not descriptor.is_writable_file:
            continue
        # Of kubelet's files the new pod has its own, such as a termination log that is empty.
        if _stays_behind(mount, descriptor.target, tree) or (descriptor.bytes and _OF_KUBELET.search(mount.root)):
            what = f"{named(process, descriptor)} is open for writing on the volume at {mount.point}"
            yield f"{what}: {descriptor.target}"
    for process in tree.processes:
        for path in process.shared_writes:
            mount = mount_of(path, mounted)
            if mount is not None and _stays_behind(mount, path, tree):
                yield f"{process} has a file of the volume at {mount.point} mapped for writing: {path}"


def _stays_behind(mount: Mount, path: str, tree: Tree) -> bool:
    """Say whether what is written to a file is not in an artifact: of emptyDirs folders travel, no single file."""
    is_one_file = mount.point == path and mount.point not in tree.writable_mounts
    return _outlives(mount, tree) or (is_one_file and is_empty_dir(mount, tree.empty_dirs))


def _outlives(mount: Mount, tree: Tree) -> bool:
    """Say whether files of a mount stay when the container ends, without a word that writing there is safe."""
    if mount.point == "/" or mount.fstype in _OF_THE_CONTAINER or mount.point in tree.writable_mounts:
        return False
    return not is_empty_dir(mount, tree.empty_dirs) and not _OF_KUBELET.search(mount.root)


def _mounted_inside(tree: Tree) -> Iterator[str]:
    for mount in tree.made_mounts:
        yield f"{mount.point} ({mount.fstype}) was mounted in the container after its start"


def _unlinked_too_large(tree: Tree) -> Iterator[str]:
    if (limit := tree.unlinked_limit) is None:
        return
    opened = {descriptor.target: descriptor.unlinked_bytes for _, descriptor in tree.open_files()}
    mapped = {f"{path} (deleted)": size for process in tree.processes for path, size in process.unlinked}
    for path, size in (opened | mapped).items():
        if size > limit:
            yield f"{path} holds {size} bytes, more than {limit} (config.criu.ghostLimit)"


def _unlinked_folder(tree: Tree) -> Iterator[str]:
    yield from tree.taken_names
    yield from long_names(tree)


def _address_bound(tree: Tree) -> Iterator[str]:
    fixed = {
        socket.inode: socket
        for socket in tree.sockets
        if not socket.is_anywhere and socket.plain_address not in tree.own_addresses
    }
    for inode, process, descriptor in tree.open_sockets if fixed else ():
        socket = fixed.get(inode)
        if socket is not None:
            what = f"{named(process, descriptor)} is bound to {socket.protocol} address {socket.address}"
            yield f"{what}, port {socket.port}"


def _unix_peer_outside(tree: Tree) -> Iterator[str]:
    own = {inode for inode, _, _ in tree.open_sockets}
    there = {socket.inode: socket for socket in tree.unix_sockets}
    not_accepted = {inode: listener.inode for listener in there.values() for inode in listener.waiting}
    for inode, process, descriptor in tree.open_sockets:
        socket = there.get(inode)
        if socket is None:
            continue
        peer = socket.peer or not_accepted.get(socket.inode, 0)
        if peer and peer not in own:
            name = (there[peer].name if peer in there else "") or socket.name
            what = f"Unix socket {name}" if name else "a Unix socket without a name"
            yield f"{named(process, descriptor)} is connected to a process outside of the worker by {what}"


def _confined(tree: Tree) -> Iterator[str]:
    if tree.allow_unconfined:
        return
    for process in tree.processes:
        if process.label != tree.label:
            own = f"confined by {process.label}" if process.label else "not confined"
            yield f"{process} is {own}, and its container by {tree.label or 'nothing'}: a restore makes them the same"
        elif process.label != tree.profile:
            yield f"{process} is confined by {process.label}, which it would not be when it is restored"


def _traced(tree: Tree) -> Iterator[str]:
    for process in tree.processes:
        if process.tracer:
            yield f"{process} is traced, by process {process.tracer} of the node"


CHECKS: Final[tuple[tuple[AgentReason, Callable[[Tree], Iterator[str]]], ...]] = (
    (AgentReason.IO_URING, _io_uring),
    (AgentReason.MESSAGE_QUEUE, posix_queues),
    (AgentReason.PSEUDO_TERMINAL, _pseudo_terminal),
    (AgentReason.UNSUPPORTED_DESCRIPTOR, unsupported_descriptors),
    (AgentReason.UNSUPPORTED_DESCRIPTOR, locks_that_stay_lost),
    (AgentReason.UNSUPPORTED_SOCKET, unsupported_sockets),
    (AgentReason.UNSUPPORTED_MEMORY, unsupported_memory),
    (AgentReason.SYSV_IPC, sysv_ipc),
    (AgentReason.NESTED_NAMESPACES, _nested_namespaces),
    (AgentReason.THREAD_APART, _thread_apart),
    (AgentReason.UNSUPPORTED_SCHEDULING, _scheduling),
    (AgentReason.UNSUPPORTED_PROCESS, unsupported_processes),
    (AgentReason.INOTIFY_DELETED, _inotify_deleted),
    (AgentReason.INOTIFY_OVERLAY, _inotify_overlay),
    (AgentReason.VOLUME_WRITTEN, _volume_written),
    (AgentReason.MOUNTED_INSIDE, _mounted_inside),
    (AgentReason.UNLINKED_TOO_LARGE, _unlinked_too_large),
    (AgentReason.UNLINKED_FOLDER, _unlinked_folder),
    (AgentReason.ADDRESS_BOUND, _address_bound),
    (AgentReason.UNIX_PEER_OUTSIDE, _unix_peer_outside),
    (AgentReason.CONFINEMENT_LOST, _confined),
    (AgentReason.TRACED, _traced),
)
