"""What of the worker's Unix sockets shows only in a copy of their descriptors."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

from linux.descriptors import Descriptor
from linux.net.on_its_way import on_its_way
from linux.net.unix_diag import UnixSocket
from linux.net.unix_file import has_senders

if TYPE_CHECKING:
    from agent.preflight.facts import Process


def signed_sockets(by_pid: "Mapping[int, Process]", unix: Iterable[UnixSocket]) -> frozenset[int]:
    """Return the inodes of sockets in which data waits that says who sent it, or when."""
    unread = {each.inode: each.kind for each in unix if each.unread and not each.waiting}
    signed = set()
    for pid, inode, descriptor in open_sockets(by_pid, unread):
        with suppress(OSError):
            if has_senders(pid, descriptor.number, unread[inode]):
                signed.add(inode)
    return frozenset(signed)


def waiting_descriptors(
    by_pid: "Mapping[int, Process]", unix: Iterable[UnixSocket]
) -> tuple[tuple[tuple["Process", Descriptor], ...], tuple[tuple["Process", Descriptor], ...]]:
    """Return the descriptors that wait in sockets; and the sockets in which there are more that cannot be seen."""
    unread = {each.inode: each.kind for each in unix if each.unread and not each.waiting}
    looked: set[int] = set()
    found, hiding = [], []
    for pid, inode, descriptor in open_sockets(by_pid, unread):
        if inode in looked:
            continue
        looked.add(inode)
        with suppress(OSError):
            waiting = on_its_way(pid, descriptor.number)
            found += [(by_pid[pid], each) for each in waiting.descriptors]
            hiding += [] if waiting.is_all else [(by_pid[pid], descriptor)]
    return tuple(found), tuple(hiding)


def open_sockets(
    by_pid: "Mapping[int, Process]", wanted: Mapping[int, object]
) -> Iterator[tuple[int, int, Descriptor]]:
    """Yield process, inode and descriptor of those sockets that are wanted."""
    for pid, process in by_pid.items() if wanted else ():
        for descriptor in process.descriptors:
            inode = descriptor.socket
            if inode in wanted and inode is not None:
                yield pid, inode, descriptor
