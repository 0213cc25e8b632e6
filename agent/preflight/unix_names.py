"""Where the files of the worker's Unix sockets are, if not where these were bound."""

import os
import socket
from collections.abc import Iterable, Mapping
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from agent.container.inspection import open_in_container
from agent.preflight.unix_facts import open_sockets
from linux.net.unix_diag import UnixSocket
from linux.net.unix_file import SocketFile, file_of

if TYPE_CHECKING:
    from agent.preflight.facts import Process

_DELETED: Final = " (deleted)"
_LONGEST: Final = 107
"""Bytes of a name that a socket can be bound to."""
_MOST: Final = 10_000
"""Names of a folder that are looked at."""


class Moved(NamedTuple):
    """Sockets whose file is not where they were bound, or not only there, by inode."""

    refused: Mapping[int, str]
    """What it is, in words."""
    renamed: Mapping[int, str]
    """The only name that the file has now: a restore binds the socket to that."""


def moved_sockets(init_pid: int, by_pid: "Mapping[int, Process]", unix: Iterable[UnixSocket], proc: Path) -> Moved:
    """Look at the files of the sockets that have a name.

    Of connected streams one of each name is looked at: they have it from their listener, and criu binds none of them.
    """
    wanted = {each.inode: each for each in unix if each.name and not each.name.startswith("@")}
    looked: set[int | str] = set()
    refused: dict[int, str] = {}
    renamed: dict[int, str] = {}
    for pid, inode, descriptor in open_sockets(by_pid, wanted):
        each = wanted[inode]
        if inode in looked or (each.name in looked and _is_connected(each)):
            continue
        looked |= {inode, each.name}
        with suppress(OSError):
            file = file_of(pid, descriptor.number)
            if (now := _renamed(init_pid, pid, each.name, file, proc)) is not None:
                renamed[inode] = now
            elif words := _moved(init_pid, each.name, file, proc):
                refused[inode] = words
    return Moved(refused, renamed)


def _is_connected(each: UnixSocket) -> bool:
    return each.kind != socket.SOCK_DGRAM and each.peer != 0


def _moved(init_pid: int, name: str, file: SocketFile, proc: Path) -> str:
    """Say what is the matter with the file of a socket; empty if nothing."""
    if file.names and not _is_at(init_pid, name, file, proc):
        return f"was bound to {name} and is at {file.path} now"
    if file.names and name.endswith(_DELETED):
        return f"is bound to {name}, which looks like the name of a deleted one"
    return f"is bound to {name}, and its file has another name too" if file.names > 1 else ""


def _renamed(init_pid: int, pid: int, name: str, file: SocketFile, proc: Path) -> str | None:
    """Return the name of the file of a socket, if it has one only, another one, and a restore can bind it to that."""
    if file.names != 1 or not name.startswith("/") or _is_at(init_pid, name, file, proc):
        return None
    if not os.path.samestat(*((proc / str(each) / "root").stat() for each in (init_pid, pid))):
        return None
    now = file.path
    if now.endswith(_DELETED):  # it was given another name, and then lost the one that it is known by
        now = _other_name(init_pid, now.removesuffix(_DELETED), file, proc)
    is_one = _is_at(init_pid, now, file, proc) and not now.endswith(_DELETED) and len(os.fsencode(now)) <= _LONGEST
    return now if is_one else None


def _other_name(init_pid: int, former: str, file: SocketFile, proc: Path) -> str:
    """Return another name of a file in the folder of its former one; that one if there is none, or no such folder."""
    folder = former.rpartition("/")[0]
    try:
        directory = open_in_container(init_pid, folder or "/", os.O_RDONLY | os.O_DIRECTORY, proc)
    except OSError:
        return former
    try:
        with os.scandir(directory) as names:
            for each in islice(names, _MOST):
                with suppress(OSError):
                    found = each.stat(follow_symlinks=False)
                    if (found.st_dev, found.st_ino) == (file.device, file.inode):
                        return f"{folder}/{each.name}"
    finally:
        os.close(directory)
    return former


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
