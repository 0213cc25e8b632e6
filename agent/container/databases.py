"""SQLite databases that a worker has open: where its processes know them by device and inode, which a restore renews.

Before a connection of SQLite's writes, it looks whether its file's name still leads to the inode that it has opened,
and takes the database for replaced otherwise; connections of one process find each other's locks by it. In a restored
worker files are copies, of other inodes. So a capture notes where the number is, and a restore writes the new one
there: sixteen bytes for each process and database, at places that two of SQLite's structures (os_unix.c) show
to be its own.
"""

import os
import struct
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Final

from agent.errors import CriuError, RefusedError
from artifact.parts.process import MOST_DATABASES, MOST_INODES, Database
from contract.api.states import AgentReason
from linux.descriptors import open_regular
from linux.memory_search import Around, find
from linux.proc import Status, is_alive, status
from linux.ptrace.lent_call import OtherCallsError, borrowed
from linux.ptrace.sandboxes import can_be_asked

_MAGIC: Final = b"SQLite format 3\0"
_FILE_ID: Final = struct.Struct("QQ")
"""``struct unixFileId``, first in ``struct unixInodeInfo``: device, inode."""
_DEVICE: Final = struct.Struct("Q")
_POINTER: Final = struct.Struct("Q")
_OPENED: Final = struct.Struct("=Qi")
"""Of ``struct unixFile``: where the former is, and the descriptor."""
_ALIGNMENT: Final = 8
_LOW: Final = 3
"""Bytes of an address in which those of one region of 16 MiB differ."""
_MOST_REGIONS: Final = 64
"""In which a process has the numbers of its databases, before it is known which are SQLite's: memory is searched for
each."""
_MOST_CANDIDATES: Final = 1 << 16
"""Such places, and places that lead to them; the agent has them in its own memory."""

Numbers = tuple[int, int]
"""Device and inode."""


@dataclass(frozen=True)
class OpenDatabase:
    """What a process has of a database."""

    process: int
    """As numbered inside the container."""
    numbers: Numbers
    descriptors: frozenset[int]
    structures: Mapping[int, bytes]
    """Address of each structure of SQLite's that has one of them, and what is there: the address of the numbers, and
    the descriptor."""

    @property
    def noted(self) -> Database:
        """What a restore needs of it."""
        places = sorted({_POINTER.unpack_from(content)[0] for content in self.structures.values()})
        device, inode = self.numbers
        return Database(
            process=self.process, descriptor=min(self.descriptors), device=device, inode=inode, places=places
        )


def databases_of(pids: Iterable[int], proc: Path, known: Iterable[OpenDatabase] = ()) -> list[OpenDatabase]:
    """Return the databases that a worker's processes have open, if SQLite has any of their descriptors.

    Each file is opened for a moment: those with a lease are left out, and none may have a listener that decides
    (fanotify).

    Args:
        pids: as numbered on the node.
        proc: /proc of the node.
        known: what was found before: memory is not searched for what is there as it was.

    Raises:
        RefusedError: SQLite's memory cannot be known from other memory, or there are too many.
    """
    if not can_be_asked():  # nor could a restore write there
        return []
    found, before = list[OpenDatabase](), {(each.process, each.numbers): each for each in known}
    for pid in pids:
        try:
            found += _of_process(pid, proc, before)
        except OSError:
            if is_alive(pid, proc):
                raise
    if len(found) > MOST_DATABASES:
        words = f"its processes have {len(found)} databases of SQLite open: at most {MOST_DATABASES} can be kept"
        raise RefusedError(AgentReason.UNSUPPORTED_MEMORY, words)
    return found


def _of_process(pid: int, proc: Path, before: Mapping[tuple[int, Numbers], OpenDatabase]) -> Iterable[OpenDatabase]:
    if not (opened := _databases(pid, proc)):
        return []
    inside = status(pid, proc).inner_pid
    same = [before[inside, of] for of, held in opened.items() if _is_known(pid, held, before.get((inside, of)), proc)]
    return same if len(same) == len(opened) else list(_searched(pid, inside, opened, proc))


def _databases(pid: int, proc: Path) -> Mapping[Numbers, frozenset[int]]:
    """Return the descriptors of a process that are of databases."""
    opened = defaultdict[Numbers, set[int]](set)
    with os.scandir(proc / str(pid) / "fd") as entries:
        for entry in entries:  # a worker may have ten thousand sockets
            if of := _database(entry.path, proc / str(pid) / "fdinfo" / entry.name):
                opened[of].add(int(entry.name))
    return {of: frozenset(held) for of, held in opened.items()}


def _database(link: str, fdinfo: Path) -> Numbers | None:
    """Return what a descriptor's file is known by, if that is a database that may be looked at."""
    try:
        # Files of the kernel's have no blocks, and reading one may change something.
        if not os.readlink(link).startswith("/") or not os.stat(link).st_blocks:  # noqa: PTH115, PTH116 - there are many
            return None
        if "LEASE" in fdinfo.read_text():
            return None
        with open_regular(link) as file:
            found = os.fstat(file)
            return (found.st_dev, found.st_ino) if os.pread(file, len(_MAGIC), 0) == _MAGIC else None
    except OSError:  # it was closed, or the agent may not read it
        return None


def _is_known(pid: int, held: frozenset[int], known: OpenDatabase | None, proc: Path) -> bool:
    """Say whether a process has of a database what it had, at the same places."""
    if known is None or known.descriptors != held:
        return False
    numbers = {_POINTER.unpack_from(content)[0]: _FILE_ID.pack(*known.numbers) for content in known.structures.values()}
    try:
        with (proc / str(pid) / "mem").open("rb", buffering=0) as memory:
            return all(
                os.pread(memory.fileno(), len(content), at) == content
                for at, content in {**known.structures, **numbers}.items()
            )
    except OSError:  # a place is not there any more
        return False


def _searched(pid: int, inside: int, opened: Mapping[Numbers, frozenset[int]], proc: Path) -> Iterator[OpenDatabase]:
    candidates = _candidates(pid, inside, opened, proc)
    structures = dict(islice(_pointing(pid, inside, candidates, opened, proc), _MOST_CANDIDATES + 1))
    if len(structures) > _MOST_CANDIDATES:
        raise _unknown(inside)
    for of, held in opened.items():
        own = {at: content for at, content in structures.items() if candidates[_POINTER.unpack_from(content)[0]] == of}
        if len({_POINTER.unpack_from(content)[0] for content in own.values()}) > MOST_INODES:
            raise _unknown(inside)
        yield OpenDatabase(inside, of, held, own)


def _candidates(pid: int, inside: int, opened: Collection[Numbers], proc: Path) -> Mapping[int, Numbers]:
    """Return the addresses at which a process has the numbers of its databases.

    What is searched for are those of their devices, of which there are few, however many databases a process has.
    """
    found = dict[int, Numbers]()
    devices = {_DEVICE.pack(device) for device, _ in opened}
    for each in find(pid, devices, Around(behind=_FILE_ID.size - _DEVICE.size), proc):
        if each.address % _ALIGNMENT == 0 and (of := _FILE_ID.unpack(each.content)) in opened:
            found[each.address] = of
            if len(found) > _MOST_CANDIDATES:
                raise _unknown(inside)
    return found


def _pointing(
    pid: int, inside: int, candidates: Mapping[int, Numbers], opened: Mapping[Numbers, frozenset[int]], proc: Path
) -> Iterator[tuple[int, bytes]]:
    """Yield where memory has one of some addresses before a descriptor of the file that is known there.

    Other memory may hold the same numbers, as often as it likes. It is near each other, so what is searched for are the
    high bytes of the addresses, which differ little.
    """
    wanted = {_OPENED.pack(address, number) for address, of in candidates.items() for number in opened[of]}
    low = {structure for structure in wanted if not any(structure[_LOW : _POINTER.size])}
    regions = {structure[_LOW : _POINTER.size] for structure in wanted - low}
    if len(low) + len(regions) > _MOST_REGIONS:
        raise _unknown(inside)
    high = find(pid, regions, Around(_LOW, _OPENED.size - _POINTER.size), proc)
    for each in chain(find(pid, low, proc=proc), high):
        if each.address % _ALIGNMENT == 0 and each.content in wanted:
            yield each


def _unknown(inside: int) -> RefusedError:
    words = f"process {inside} has the inodes of its databases at so many places that SQLite's own are not known"
    return RefusedError(AgentReason.UNSUPPORTED_MEMORY, words)


def renew(tree: Mapping[int, Status], wanted: Sequence[Database], proc: Path) -> None:
    """Have restored processes know their databases by the inodes that these have now.

    Args:
        tree: processes that are stopped, by their pid on the node.
        wanted: as the manifest has them.
        proc: /proc of the node.

    Raises:
        CriuError: their memory cannot be written.
    """
    inside = {process.inner_pid: pid for pid, process in tree.items()}
    for database in wanted:
        if (pid := inside.get(database.process)) is None:
            continue
        try:
            _write(pid, database, proc)
        except (OSError, OtherCallsError) as error:
            words = f"process {database.process} of the worker does not find its database again: {error}"
            raise CriuError(AgentReason.RESTORE_FAILED, words) from error


def _write(pid: int, database: Database, proc: Path) -> None:
    of, name = proc / str(pid), str(database.descriptor)
    if (now := _database(str(of / "fd" / name), of / "fdinfo" / name)) is None:
        return  # it was closed while it was looked at
    before = _FILE_ID.pack(database.device, database.inode)
    with borrowed(pid) as process, (of / "mem").open("r+b", buffering=0) as memory:
        for place in database.places:
            process.bring(place)
            if os.pread(memory.fileno(), len(before), place) == before:  # else it was closed meanwhile
                os.pwrite(memory.fileno(), _FILE_ID.pack(*now), place)
