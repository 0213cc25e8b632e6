"""Copies parts of files to a card: from another worker's memory, from page cache that is registered, or read by a CPU.

Imports the standard library alone, as ``agent.gpu.ahead.prefetcher`` does.
"""

from __future__ import annotations

import ctypes
import mmap
import os
from dataclasses import dataclass

from agent.gpu.ahead.sums import MOST_UNITS, SPACE
from agent.gpu.ranges import STORED, UNIT

TYPE_CHECKING = False
if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from typing import Final

    from agent.gpu.ahead.device import Card
    from agent.gpu.ahead.neighbour import Neighbour
    from agent.gpu.ahead.registered import Registered
    from agent.gpu.ahead.sums import Summer, Sums
    from agent.gpu.ranges import Ranges

SLOT: Final = 4 << 20


@dataclass(frozen=True)
class Source:
    """A file to copy from."""

    descriptor: int
    number: int
    """Of the process's files."""
    registered: Registered | None = None
    ranges: Ranges | None = None
    """What of it is in others; None if nothing is."""
    others: Sequence[int] = ()
    """Descriptors of those."""
    sums: Sums | None = None
    """Of its units, as far as they are known; None if they are of no use."""
    neighbour: Neighbour | None = None
    """Who has some of it on a card."""

    def read(self, into: memoryview, offset: int) -> None:
        """Read what is at a place of the whole file.

        Raises:
            OSError: a file is too short, or cannot be read.
        """
        if self.ranges is None:
            _read(self.descriptor, into, offset)
            return
        for source, at, length in self.ranges.pieces(self.number, offset, len(into)):
            _read(self.descriptor if source == STORED else self.others[source], into[:length], at)
            into = into[length:]


@dataclass(frozen=True)
class Part:
    """A part of a file, and its place in an order."""

    number: int
    source: Source
    offset: int
    size: int

    @property
    def units(self) -> range:
        """Numbers of its units in the file; empty if it is not made of whole ones, or of too many."""
        first, count = self.offset // UNIT, self.size // UNIT
        is_whole = not self.offset % UNIT and not self.size % UNIT and count <= MOST_UNITS
        return range(first, first + count) if is_whole else range(0)


class Copier:
    """One thread's: two slots of locked memory, two streams.

    Args:
        card: the GPU, which the thread has entered.
        turn: of those that copy registered page cache to it at once.
        summer: asked for what takes sums there, when they are needed.
    """

    def __init__(self, card: Card, turn: threading.Semaphore, summer: Callable[[Card], Summer | None]) -> None:
        self._card = card
        self._turn = turn
        self._summer = summer
        self._space = 0
        memory = mmap.mmap(-1, 2 * SLOT + SPACE)
        self._at = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        card.lock_pages(self._at, 2 * SLOT + SPACE)
        view = memoryview(memory)
        self._slots = [view[:SLOT], view[SLOT : 2 * SLOT]]
        self._streams = [card.stream(), card.stream()]

    def copy(self, part: Part, to: int) -> int:
        """Copy a part of a file to a device address; return how many bytes came from another worker.

        Raises:
            OSError: the file is too short, or cannot be read.
            DriverError: the card does not take it.
        """
        source = part.source
        if (
            source.neighbour is not None
            and source.sums
            and part.units
            and (summer := self._summer(self._card)) is not None
        ):
            return self._copy_lent(source.neighbour, source.sums, summer, part, to)
        self._copy_from_host(source, part.offset, part.size, to)
        return 0

    def sum(self, part: Part, to: int) -> int:
        """Copy a part of a file to a device address, and note its sums; return how many bytes were summed.

        Raises:
            OSError, DriverError: as ``copy``.
        """
        known, summer = part.source.sums, self._summer(self._card)
        if known is None or summer is None or all(unit in known for unit in part.units):
            return 0
        self._copy_from_host(part.source, part.offset, part.size, to)
        known.update(self._sums(summer, part, to))
        return part.size

    def _sums(self, summer: Summer, part: Part, at: int) -> Sums:
        self._space = self._space or summer.space()
        found = summer.sums(at, len(part.units), self._space, self._at + 2 * SLOT, self._streams[0])
        return dict(zip(part.units, found, strict=True))

    def _copy_lent(self, neighbour: Neighbour, known: Sums, summer: Summer, part: Part, to: int) -> int:
        """Copy what another worker has, and all else from the host; return how many bytes are that worker's."""
        taken = self._take(neighbour, known, part, to)
        self._copy_units(part, (unit for unit in part.units if unit not in taken), to)
        if not taken:
            return 0
        found = self._sums(summer, part, to)
        wrong = [unit for unit in taken if found[unit] != known[unit]]
        self._copy_units(part, wrong, to)
        return (len(taken) - len(wrong)) * UNIT

    def _take(self, neighbour: Neighbour, known: Sums, part: Part, to: int) -> set[int]:
        """Copy units that another worker has and whose sums are known; return which."""
        taken: set[int] = set()
        first, stream = part.units.start, self._streams[0]
        for run in neighbour.runs(part.source.number, first, len(part.units)):
            units = range(run.unit, run.unit + run.count)
            if all(unit in known for unit in units) and (at := neighbour.address(run)) is not None:
                self._card.copy_within(to + (run.unit - first) * UNIT, at, run.count * UNIT, stream)
                taken.update(units)
        return taken

    def _copy_units(self, part: Part, units: Iterable[int], to: int) -> None:
        """Copy units of a part from the host."""
        for run in _joined(units):
            offset = run.start * UNIT
            self._copy_from_host(part.source, offset, len(run) * UNIT, to + offset - part.offset)

    def _copy_from_host(self, source: Source, offset: int, size: int, to: int) -> None:
        registered = source.registered
        if registered is None or offset + size > registered.size:
            self._copy_by_slots(source, offset, size, to)
            return
        with self._turn:
            for at, length in registered.pieces(offset, size):
                self._card.copy(to, at, length, self._streams[0])
                to += length
            self._card.wait(self._streams[0])

    def _copy_by_slots(self, source: Source, offset: int, size: int, to: int) -> None:
        for number, done in enumerate(range(0, size, SLOT)):
            slot, length = number % 2, min(SLOT, size - done)
            self._card.wait(self._streams[slot])
            source.read(self._slots[slot][:length], offset + done)
            self._card.copy(to + done, self._at + slot * SLOT, length, self._streams[slot])
        for stream in self._streams:
            self._card.wait(stream)


def _joined(numbers: Iterable[int]) -> Iterator[range]:
    """Join numbers that follow each other."""
    run = range(0)
    for number in sorted(numbers):
        if run and number == run.stop:
            run = range(run.start, number + 1)
            continue
        if run:
            yield run
        run = range(number, number + 1)
    if run:
        yield run


def _read(file: int, into: memoryview, offset: int) -> None:
    while into:
        done = os.preadv(file, [into], offset)
        if not done:
            raise OSError("a file of device memory was cut short")
        into, offset = into[done:], offset + done
