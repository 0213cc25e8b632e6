"""SQLite databases that a worker has open: where its processes know them by device and inode, which a restore renews.

Before a connection of SQLite's writes, it looks whether its file's name still leads to the inode that it has opened,
and takes the database for replaced otherwise; connections of one process find each other's locks by it. In a restored
worker files are copies, of other inodes. So a capture notes where the number is, and a restore writes the new one
there: sixteen bytes for each process and database, at places that two of SQLite's structures (os_unix.c) show
to be its own.
"""

import os
import stat
import struct
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from agent.errors import CriuError, RefusedError
from artifact.parts.process import MOST_PLACES, Database
from contract.api.states import AgentReason
from linux.descriptors import open_regular
from linux.memory_search import Around, find
from linux.proc import Status, status

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
"""Such places; the agent has them in its own memory."""
Numbers = tuple[int, int]
"""Device and inode."""


def databases_of(pids: Iterable[int], proc: Path, known: Iterable[Database] = ()) -> list[Database]:
    """Return the databases that a worker's processes have open, and where each knows their inodes.

    Args:
        pids: as numbered on the node.
        proc: /proc of the node.
        known: what was found before: memory is not searched for what is there as it was.

    Raises:
        RefusedError: SQLite's memory cannot be known from other memory.
    """
    found, before = list[Database](), {(each.process, each.device, each.inode): each for each in known}
    for pid in pids:
        with suppress(OSError):  # it has ended, or is a zombie
            if not (opened := _databases(pid, proc)):
                continue
            inside = status(pid, proc).inner_pid
            same = [before[inside, *of] for of in opened if (inside, *of) in before]
            if len(same) < len(opened) or not all(_is_there(pid, each, proc) for each in same):
                same = list(_searched(pid, inside, opened, proc))
            found += same
    return found


def _databases(pid: int, proc: Path) -> Mapping[Numbers, list[int]]:
    """Return the descriptors of a process that are of databases."""
    opened = defaultdict[Numbers, list[int]](list)
    with os.scandir(proc / str(pid) / "fd") as entries:
        for entry in entries:  # a worker may have ten thousand sockets
            with suppress(OSError):
                if os.readlink(entry.path).startswith("/") and (of := _database(entry.path)):  # noqa: PTH115 - many
                    opened[of].append(int(entry.name))
    return opened


def _database(link: str) -> Numbers | None:
    if not os.stat(link).st_blocks:  # noqa: PTH116 - a file of the kernel's, where reading may change something
        return None
    with open_regular(link) as file:
        found = os.fstat(file)
        return (found.st_dev, found.st_ino) if os.pread(file, len(_MAGIC), 0) == _MAGIC else None


def _is_there(pid: int, database: Database, proc: Path) -> bool:
    numbers = _FILE_ID.pack(database.device, database.inode)
    with (proc / str(pid) / "mem").open("rb", buffering=0) as memory:
        return all(os.pread(memory.fileno(), len(numbers), place) == numbers for place in database.places)


def _searched(pid: int, inside: int, opened: Mapping[Numbers, Sequence[int]], proc: Path) -> Iterator[Database]:
    candidates = _candidates(pid, inside, opened, proc)
    of_sqlite = set(_pointed_to(pid, inside, candidates, opened, proc))
    for of, held in opened.items():
        places = sorted(address for address in of_sqlite if candidates[address] == of)
        yield Database(process=inside, descriptor=held[0], device=of[0], inode=of[1], places=places[:MOST_PLACES])


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


def _pointed_to(
    pid: int, inside: int, candidates: Mapping[int, Numbers], opened: Mapping[Numbers, Sequence[int]], proc: Path
) -> Iterator[int]:
    """Yield those of some addresses that memory has before a descriptor of the file that is known there.

    Other memory may hold the same numbers, as often as it likes. It is near each other, so what is searched for are the
    high bytes of the addresses, which differ little.
    """
    structures = {_OPENED.pack(address, number): address for address, of in candidates.items() for number in opened[of]}
    wanted = {structure[_LOW : _POINTER.size] for structure in structures}
    if len(wanted) > _MOST_REGIONS:
        raise _unknown(inside)
    for each in find(pid, wanted, Around(_LOW, _OPENED.size - _POINTER.size), proc):
        if each.address % _ALIGNMENT == 0 and (address := structures.get(each.content)) is not None:
            yield address


def _unknown(inside: int) -> RefusedError:
    words = (
        f"process {inside} has the inodes of its databases at so many places that SQLite's are not known from others"
    )
    return RefusedError(AgentReason.UNSUPPORTED_MEMORY, words)


def renew(tree: Mapping[int, Status], wanted: Sequence[Database], proc: Path) -> None:
    """Have restored processes know their databases by the inodes that these have now.

    Args:
        tree: processes that are stopped, by their pid on the node.
        wanted: as the manifest has them.
        proc: /proc of the node.

    Raises:
        CriuError: their memory cannot be written, or what they had open is not there.
    """
    inside = {process.inner_pid: pid for pid, process in tree.items()}
    for database in wanted:
        if (pid := inside.get(database.process)) is None:
            continue
        try:
            _write(pid, database, proc)
        except OSError as error:
            words = f"process {database.process} of the worker does not find its database again: {error}"
            raise CriuError(AgentReason.RESTORE_FAILED, words) from error


def _write(pid: int, database: Database, proc: Path) -> None:
    found = (proc / str(pid) / "fd" / str(database.descriptor)).stat()
    if not stat.S_ISREG(found.st_mode):
        return  # it was closed while it was looked at
    before, now = _FILE_ID.pack(database.device, database.inode), _FILE_ID.pack(found.st_dev, found.st_ino)
    with (proc / str(pid) / "mem").open("r+b", buffering=0) as memory:
        for place in database.places:
            if os.pread(memory.fileno(), len(before), place) == before:  # else it was closed meanwhile
                os.pwrite(memory.fileno(), now, place)
