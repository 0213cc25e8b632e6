"""Shared memory that criu is not to copy: a memfd or shared anonymous memory, left out of the images and filled by us.

criu fills each segment with one thread, before any process of the tree is made. Without pages in its image a segment is
made with its size, empty; then as many threads as the node has fill all of them at once, while the tree is stopped.
Only what a restored process maps is left out: through that mapping it is found again.

Numbers are those of criu's ``images/mm.proto``, ``vma.proto``, ``fdinfo.proto``, ``memfd.proto`` and ``pagemap.proto``.
"""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent import protobuf
from agent.criu.images.files import read_image, replace_image
from agent.criu.shared_fill import Run
from agent.errors import CriuError
from contract.api.states import AgentReason
from linux.descriptors import memory_device

_PAGE: Final = 4096
_MM: Final = re.compile(r"mm-([0-9]{1,9})\.img")
_SEGMENT: Final = re.compile(r"pagemap-shmem-([0-9]{1,19})\.img")
_MM_VMAS: Final = 14
_START, _END, _ID, _FLAGS, _STATUS = 1, 2, 4, 6, 7
_FILE_PRIVATE, _FILE_SHARED, _ANONYMOUS_SHARED, _SYSV, _MEMFD = 1 << 6, 1 << 7, 1 << 8, 1 << 10, 1 << 14
_HUGE_PAGES: Final = 0x40000
"""Of a mapping's flags: MAP_HUGETLB."""
_FILE_ID, _FILE_MEMFD, _FILE_INODE = 2, 20, 5
_INODE_SEGMENT, _INODE_SEALS, _INODE, _INODE_HUGE_PAGES = 5, 6, 7, 8
_READ_ONLY: Final = 0x8 | 0x10
"""Of a memfd's seals: F_SEAL_WRITE and F_SEAL_FUTURE_WRITE; criu adds them when it has the content."""
_HEAD_PAGES, _ENTRY_START, _ENTRY_PAGES_32, _ENTRY_FLAGS, _ENTRY_PAGES = 1, 1, 2, 4, 5
_ENTRY_FIELDS: Final = frozenset((_ENTRY_START, _ENTRY_PAGES_32, _ENTRY_FLAGS, _ENTRY_PAGES))
_PRESENT: Final = 4


@dataclass(frozen=True)
class Place:
    """A mapping of a segment."""

    pid: int
    """As numbered in the container."""
    start: int


@dataclass(frozen=True)
class Segment:
    """Shared memory, and where its content is."""

    number: int
    place: Place
    pages: int
    """Number of the image that holds its content."""
    runs: tuple[Run, ...]
    """Offset in that image, offset in the segment, length; in bytes."""

    @property
    def image(self) -> str:
        """The name of the image that says which pages there are."""
        return f"pagemap-shmem-{self.number}.img"

    @property
    def size(self) -> int:
        """Bytes of content."""
        return sum(length for _, _, length in self.runs)


def find_segments(directory: int, at_least: int = 0) -> tuple[Segment, ...]:
    """Return the shared memory in the images of a directory that may be left out of them.

    Args:
        directory: of the images.
        at_least: bytes; if all segments together have fewer, nothing is returned, and no process's image is read.

    Raises:
        CriuError: ``restore-failed``: the images are not what criu writes.
    """
    try:
        contents = dict(_contents(directory))
        if not contents or sum(length for _, runs in contents.values() for _, _, length in runs) < at_least:
            return ()
        places: dict[int, Place] = {}
        memfds = _memfds(directory)
        for name in sorted(os.listdir(directory)):
            if match := _MM.fullmatch(name):
                for number, start in _mapped(read_image(directory, name), memfds):
                    places.setdefault(number, Place(int(match[1]), start))
        found = tuple(Segment(n, place, *contents[n]) for n, place in places.items() if n in contents)
        return found if sum(segment.size for segment in found) >= at_least else ()
    except (OSError, ValueError) as error:
        raise CriuError(AgentReason.RESTORE_FAILED, f"criu's images of shared memory: {error}") from error


def content_of(directory: int, number: int) -> tuple[int, tuple[Run, ...]]:
    """Return the number of the image that holds the content of one segment, and what of it.

    Raises:
        ValueError, OSError: the images are not what criu writes.
    """
    head, *entries = map(protobuf.values, protobuf.messages(read_image(directory, f"pagemap-shmem-{number}.img")))
    if (runs := _runs(entries)) is None:
        raise ValueError(f"segment {number} has pages that are elsewhere")
    return head.get(_HEAD_PAGES, 0), runs


def maps_memfds_privately(directory: int) -> bool:
    """Say whether a process in the images of a directory has a private mapping of a memfd.

    Raises:
        CriuError: ``restore-failed``: the images are not what criu writes.
    """
    wanted = _FILE_PRIVATE | _MEMFD
    try:
        names = os.listdir(directory)
        return "memfd.img" in names and any(
            mapping.get(_STATUS, 0) & wanted == wanted
            for name in names
            if _MM.fullmatch(name)
            for mapping in _mappings(read_image(directory, name))
        )
    except (OSError, ValueError) as error:
        raise CriuError(AgentReason.RESTORE_FAILED, f"criu's images of memory: {error}") from error


def empty(directory: int, segments: Sequence[Segment]) -> None:
    """Take the pages from the images of *segments*."""
    for segment in segments:
        image = read_image(directory, segment.image)
        _, end = protobuf.message(image)
        replace_image(directory, segment.image, image[:end])


def open_segment(segment: Segment, host_pids: Mapping[int, int], proc: Path) -> int:
    """Open a segment by the mapping of its restored process; *host_pids* has a host pid for each of the container's.

    What is mapped there is the images' word: a file of the container must not be opened with the agent's rights.

    Raises:
        OSError, ValueError: there is no such mapping, or it is not of the kernel's own shared memory.
    """
    process = proc / str(host_pids[segment.place.pid])
    for line in (process / "maps").read_text().splitlines():
        start, end = (int(part, 16) for part in line.split(" ", 1)[0].split("-"))
        if start <= segment.place.start < end:
            found = os.open(process / f"map_files/{start:x}-{end:x}", os.O_PATH | os.O_CLOEXEC)
            try:
                if os.fstat(found).st_dev != memory_device():
                    break
                return os.open(f"/proc/self/fd/{found}", os.O_RDWR | os.O_CLOEXEC)
            finally:
                os.close(found)
    raise ValueError(f"process {segment.place.pid} maps no shared memory at {segment.place.start:x}")


def _memfds(directory: int) -> dict[int, int]:
    """Return the segment of each memfd that can be written to, by the number of an open file of it."""
    if "memfd.img" not in os.listdir(directory):
        return {}
    inodes = {}
    for text in protobuf.messages(read_image(directory, "memfd.img")):
        inode = protobuf.parse(text)
        if not protobuf.number(inode, _INODE_SEALS) & _READ_ONLY and not protobuf.number(inode, _INODE_HUGE_PAGES):
            inodes[protobuf.number(inode, _INODE)] = protobuf.number(inode, _INODE_SEGMENT)
    found = {}
    for text in protobuf.messages(read_image(directory, "files.img")):
        file = protobuf.parse(text)
        for memfd in protobuf.embedded(file, _FILE_MEMFD):
            number = inodes.get(protobuf.number(protobuf.parse(memfd), _FILE_INODE))
            if number is not None:
                found[protobuf.number(file, _FILE_ID)] = number
    return found


def _mapped(image: bytes, memfds: Mapping[int, int]) -> Iterator[tuple[int, int]]:
    """Yield segment and address of each mapping of shared memory in the image of a process."""
    for mapping in _mappings(image):
        status, number = mapping.get(_STATUS, 0), mapping.get(_ID, 0)
        if status & _SYSV or mapping.get(_FLAGS, 0) & _HUGE_PAGES:
            continue
        if status & _ANONYMOUS_SHARED:
            yield number, mapping.get(_START, 0)
        elif status & _MEMFD and status & _FILE_SHARED and number in memfds:
            yield memfds[number], mapping.get(_START, 0)


def _mappings(image: bytes) -> Iterator[Mapping[int, int]]:
    """Yield the numbers of each mapping in the image of a process."""
    return map(protobuf.values, protobuf.embedded(protobuf.parse(protobuf.message(image)[0]), _MM_VMAS))


def _contents(directory: int) -> Iterator[tuple[int, tuple[int, tuple[Run, ...]]]]:
    """Yield each segment with the image that holds its content, and what of it; not those that are left to criu."""
    for name in os.listdir(directory):
        if match := _SEGMENT.fullmatch(name):
            head, *entries = map(protobuf.values, protobuf.messages(read_image(directory, name)))
            runs = _runs(entries)
            if runs is not None:
                yield int(match[1]), (head.get(_HEAD_PAGES, 0), runs)


def _runs(entries: Sequence[Mapping[int, int]]) -> tuple[Run, ...] | None:
    """Return which pages of a segment are stored; None if an entry is not known: that segment is left to criu."""
    runs, offset = [], 0
    for entry in entries:
        if entry.keys() - _ENTRY_FIELDS or entry.get(_ENTRY_FLAGS) != _PRESENT:
            return None
        length = entry.get(_ENTRY_PAGES, entry.get(_ENTRY_PAGES_32, 0)) * _PAGE
        runs.append((offset, entry.get(_ENTRY_START, 0), length))
        offset += length
    return tuple(runs)
