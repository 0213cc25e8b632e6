"""Ranges of saved device memory that are not stored: they are in other files, which a model came from.

A file of device memory with such ranges is *whole* as a worker's library saved it, and *stored* without them. A table
says where they belong; ``native/device_memory/ranges.c`` reads the same.
Imports the standard library alone, as ``agent.gpu.ahead.prefetcher`` does.
"""

from __future__ import annotations

import os
import struct
from bisect import bisect_right
from contextlib import contextmanager
from dataclasses import dataclass, field

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import Final

UNIT: Final = 2 << 20
"""Bytes of device memory that are stored as one, or not at all if they are zeros."""
STORED: Final = -1
"""In place of a source's number: the bytes are in the stored file."""
MOST_RANGES: Final = 1 << 20
"""Of one process; ``native/device_memory/ranges.c`` has the same."""
MOST_SOURCES: Final = 224
"""Files that one process's ranges are in: descriptors that go with one message, beside those of its own files."""
_ROW: Final = struct.Struct("<IIQQQ")
ROW_BYTES: Final = _ROW.size


class RangesError(ValueError):
    """A table contradicts itself, or the files that it is about."""


@dataclass(frozen=True, order=True)
class Range:
    """What of a whole file is in another file."""

    file: int
    """Which of the files of device memory."""
    at: int
    """Its first byte, in the whole file."""
    length: int
    source: int
    """Which of the other files."""
    offset: int
    """Its first byte there."""


@dataclass(frozen=True)
class Elsewhere:
    """What of one process's saved files is in others."""

    sources: Sequence[int] = ()
    """Descriptors of those others."""
    ranges: Sequence[Range] = ()
    """In order; found right."""

    def __bool__(self) -> bool:
        """Say whether there is anything."""
        return bool(self.ranges)

    @contextmanager
    def table(self) -> Iterator[int]:
        """Yield a descriptor of the table, for another process."""
        descriptor = os.memfd_create("ranges", os.MFD_CLOEXEC)
        try:
            with os.fdopen(os.dup(descriptor), "wb") as file:
                file.write(pack_ranges(self.ranges))
            yield descriptor
        finally:
            os.close(descriptor)


NOWHERE: Final = Elsewhere()


@dataclass
class _File:
    stored: int
    starts: list[int] = field(default_factory=list)
    ranges: list[Range] = field(default_factory=list)
    before: list[int] = field(default_factory=list)
    """Bytes of all ranges before each."""
    referenced: int = 0


class Ranges:
    """A table that was found right.

    Args:
        ranges: in the order of their files, and of their places there.
        stored: bytes of each stored file.
        sources: bytes of each of the other files.

    Raises:
        RangesError: they overlap, or go beyond a file.
    """

    def __init__(self, ranges: Iterable[Range], stored: Sequence[int], sources: Sequence[int]) -> None:
        self._files = [_File(size) for size in stored]
        last = Range(0, 0, 0, 0, 0)
        for each in ranges:
            if each.file >= len(stored) or each.source >= len(sources):
                raise RangesError("a range is of no such file")
            if (each.file, each.at) < (last.file, last.at + last.length if each.file == last.file else 0):
                raise RangesError("ranges overlap")
            if not each.length or each.offset + each.length > sources[each.source]:
                raise RangesError("a range goes beyond its file")
            self._add(self._files[each.file], each)
            last = each

    @staticmethod
    def _add(file: _File, added: Range) -> None:
        if added.at - file.referenced > file.stored:
            raise RangesError("a range is behind the end of what is stored")
        file.starts.append(added.at)
        file.before.append(file.referenced)
        file.ranges.append(added)
        file.referenced += added.length

    @property
    def referenced(self) -> list[int]:
        """Bytes of each file that are not stored."""
        return [file.referenced for file in self._files]

    def pieces(self, number: int, at: int, size: int) -> Iterator[tuple[int, int, int]]:
        """Cut bytes of a whole file into what is read at once: source, or STORED; offset there, and length."""
        file = self._files[number]
        while size > 0:
            source, offset, length = _piece(file, at)
            length = min(length, size)
            yield source, offset, length
            at, size = at + length, size - length


def _piece(file: _File, at: int) -> tuple[int, int, int]:
    number = bisect_right(file.starts, at) - 1
    if number >= 0 and at < file.starts[number] + file.ranges[number].length:
        found = file.ranges[number]
        done = at - found.at
        return found.source, found.offset + done, found.length - done
    referenced = file.before[number] + file.ranges[number].length if number >= 0 else 0
    end = file.starts[number + 1] if number + 1 < len(file.starts) else file.stored + file.referenced
    return STORED, at - referenced, max(1, end - at)  # behind the end a read says so


def gaps(ranges: Sequence[Range], size: int) -> Iterator[tuple[int, int]]:
    """Yield where what is not in any of the ranges is in a whole file, and its length.

    Args:
        ranges: of one file, in order.
        size: of the whole file.
    """
    at = 0
    for each in ranges:
        if each.at > at:
            yield at, each.at - at
        at = each.at + each.length
    if size > at:
        yield at, size - at


def pack_ranges(ranges: Iterable[Range]) -> bytes:
    """Return a table as it is stored."""
    return b"".join(_ROW.pack(each.file, each.source, each.at, each.length, each.offset) for each in ranges)


def parse_ranges(text: bytes) -> list[Range]:
    """Parse a table.

    Raises:
        RangesError: it is none.
    """
    if len(text) % ROW_BYTES or len(text) > MOST_RANGES * ROW_BYTES:
        raise RangesError("is no table of ranges")
    rows = _ROW.iter_unpack(text)
    return [Range(file, at, length, source, offset) for file, source, at, length, offset in rows]
