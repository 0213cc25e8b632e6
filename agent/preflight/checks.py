"""The checks: each looks at a tree of processes and says what of it a capture would lose, or a restore not find.

Pure. A finding is a refusal: nothing has been touched, and the next start of the worker would end the same way.
"""

import re
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from agent.errors import RefusedError
from agent.preflight.facts import Tree
from contract.api.states import AgentReason
from linux.proc import Mount, mount_of

_IO_URING: Final = "anon_inode:[io_uring]"
_OWN_TERMINAL: Final = "/dev/tty"
_EMPTY_DIR: Final = "/volumes/kubernetes.io~empty-dir/"
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
    for process in tree.processes:
        for descriptor in process.descriptors:
            if descriptor.target == _IO_URING:
                yield f"descriptor {descriptor.number} of {process} is an io_uring"


def _message_queue(tree: Tree) -> Iterator[str]:
    for process in tree.processes:
        for descriptor in process.descriptors:
            if descriptor.is_message_queue:
                yield f"descriptor {descriptor.number} of {process} is the POSIX message queue {descriptor.target}"


def _pseudo_terminal(tree: Tree) -> Iterator[str]:
    for process in tree.processes:
        for descriptor in process.descriptors:
            if descriptor.target == _OWN_TERMINAL:
                what = f"descriptor {descriptor.number} of {process}"
                yield f"{what} is {_OWN_TERMINAL}, of a terminal that the worker made"


def _nested_namespaces(tree: Tree) -> Iterator[str]:
    root = tree.namespaces
    for process in tree.processes:
        own = process.namespaces
        kinds = [kind for kind in own if own[kind] != root[kind] and kind != "pid_for_children"]
        if own["pid_for_children"] != root["pid"]:
            kinds.append("pid")
        if kinds:
            yield f"{process} has its own namespaces: {', '.join(kinds)}"
        elif process.strangers:
            yield f"a child of {process} is in a pid namespace of its own"


def _inotify_overlay(tree: Tree) -> Iterator[str]:
    devices = {mount.device for mount in tree.mounts if mount.fstype == "overlay"}
    for process in tree.processes:
        for descriptor in process.descriptors:
            if any(device in devices and inode not in tree.findable for device, inode in descriptor.watches):
                yield f"descriptor {descriptor.number} of {process} watches files of the image by inotify"


def _volume_written(tree: Tree) -> Iterator[str]:
    outlive = {mount.number: mount for mount in tree.mounts if _outlives(mount, tree)}
    for process in tree.processes:
        for descriptor in process.descriptors:
            mount = outlive.get(descriptor.mount)
            if descriptor.is_writable_file and mount is not None:
                yield (
                    f"descriptor {descriptor.number} of {process} is open for writing on the volume at {mount.point}: "
                    f"{descriptor.target}"
                )
        for path in process.shared_writes:
            on = mount_of(path, list(tree.mounts))
            if on is not None and on.number in outlive:
                yield f"{process} has a file of the volume at {on.point} mapped for writing: {path}"


def _outlives(mount: Mount, tree: Tree) -> bool:
    """Say whether files of a mount stay when the container ends, without a word that writing there is safe."""
    if mount.point == "/" or mount.fstype in _OF_THE_CONTAINER or mount.point in tree.writable_mounts:
        return False
    is_empty_dir = mount.point in tree.empty_dirs or _EMPTY_DIR in mount.root
    return not is_empty_dir and not _OF_KUBELET.search(mount.root)


def _address_bound(tree: Tree) -> Iterator[str]:
    fixed = {socket.inode: socket for socket in tree.sockets if not socket.is_anywhere}
    for process in tree.processes:
        for descriptor in process.descriptors:
            socket = fixed.get(descriptor.socket or 0)
            if socket is not None:
                yield (
                    f"descriptor {descriptor.number} of {process} is bound to {socket.protocol} address "
                    f"{socket.address}, port {socket.port}"
                )


CHECKS: Final[tuple[tuple[AgentReason, Callable[[Tree], Iterator[str]]], ...]] = (
    (AgentReason.IO_URING, _io_uring),
    (AgentReason.MESSAGE_QUEUE, _message_queue),
    (AgentReason.PSEUDO_TERMINAL, _pseudo_terminal),
    (AgentReason.NESTED_NAMESPACES, _nested_namespaces),
    (AgentReason.INOTIFY_OVERLAY, _inotify_overlay),
    (AgentReason.VOLUME_WRITTEN, _volume_written),
    (AgentReason.ADDRESS_BOUND, _address_bound),
)
