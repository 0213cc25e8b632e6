"""What of the worker's Unix sockets shows only in a copy of their descriptors."""

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from agent.container.inspection import open_in_container
from linux.descriptors import Descriptor
from linux.net.on_its_way import on_its_way
from linux.net.unix_diag import UnixSocket
from linux.net.unix_file import SocketFile, file_of, has_senders

if TYPE_CHECKING:
    from agent.preflight.facts import Process

_DELETED: Final = " (deleted)"


def moved_sockets(
    init_pid: int, by_pid: "Mapping[int, Process]", unix: Iterable[UnixSocket], proc: Path
) -> dict[int, str]:
    """Return the inodes of sockets whose file is not where they were bound, or not only there; in words.

    One socket of each name is looked at: those that were accepted have that of their listener.
    """
    names = {each.inode: each.name for each in unix if each.name and not each.name.startswith("@")}
    looked: set[str] = set()
    moved = {}
    for pid, inode, descriptor in _open(by_pid, names):
        name = names[inode]
        if name in looked:
            continue
        looked.add(name)
        with suppress(OSError):
            file = file_of(pid, descriptor.number)
            if file.names and not _is_at(init_pid, name, file, proc):
                moved[inode] = f"was bound to {name} and is at {file.path} now"
            elif file.names and name.endswith(_DELETED):
                moved[inode] = f"is bound to {name}, which looks like the name of a deleted one"
            elif file.names > 1:
                moved[inode] = f"is bound to {name}, and its file has another name too"
    return moved


def signed_sockets(by_pid: "Mapping[int, Process]", unix: Iterable[UnixSocket]) -> frozenset[int]:
    """Return the inodes of sockets in which data waits that says who sent it, or when."""
    unread = {each.inode: each.kind for each in unix if each.unread and not each.waiting}
    signed = set()
    for pid, inode, descriptor in _open(by_pid, unread):
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
    for pid, inode, descriptor in _open(by_pid, unread):
        if inode in looked:
            continue
        looked.add(inode)
        with suppress(OSError):
            waiting = on_its_way(pid, descriptor.number)
            found += [(by_pid[pid], each) for each in waiting.descriptors]
            hiding += [] if waiting.is_all else [(by_pid[pid], descriptor)]
    return tuple(found), tuple(hiding)


def _open(by_pid: "Mapping[int, Process]", wanted: Mapping[int, object]) -> Iterator[tuple[int, int, Descriptor]]:
    for pid, process in by_pid.items() if wanted else ():
        for descriptor in process.descriptors:
            inode = descriptor.socket
            if inode in wanted and inode is not None:
                yield pid, inode, descriptor


def _is_at(init_pid: int, name: str, file: SocketFile, proc: Path) -> bool:
    if not name.startswith("/"):  # of which folder is not known; criu takes off the name from the end of the path
        return file.path.endswith(f"/{name}")
    try:
        there = open_in_container(init_pid, name, os.O_PATH, proc)
    except OSError:
        return False
    try:
        found = os.fstat(there)
        return (found.st_dev, found.st_ino) == (file.device, file.inode)
    finally:
        os.close(there)
