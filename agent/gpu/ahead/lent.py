"""Device memory that a running worker lends: it was filled from the files that another worker is to have.

What the lending process says of it is hostile: it is believed of no byte what it is before its sum was compared.
Imports the standard library alone, as ``agent.gpu.ahead.prefetcher`` does.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from dataclasses import dataclass

from agent.gpu.ranges import UNIT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Final

COPIERS: Final = 16
"""Files of one process: as many as its library has threads that copy."""
MOST_SEGMENTS: Final = 4096
"""Pieces of memory that are taken of one process."""
MOST_PLACES: Final = 1 << 20
"""Units of one process: 2 TiB."""
PLACE_BYTES: Final = 4
"""An unsigned number of the machine's: 0 for a unit of zeros, else 1 + its number in its file * COPIERS + the file."""


@dataclass(frozen=True)
class LentSegment:
    """One piece of memory."""

    first: int
    """Its first unit among the places."""
    size: int
    """Bytes, as its owner says."""
    descriptor: int


@dataclass(frozen=True)
class Lent:
    """All that one process lends."""

    segments: Sequence[LentSegment]
    places: int
    """Descriptor of a file: where each unit is in the files."""

    def close(self) -> None:
        """Close all descriptors; who has mapped the memory keeps it."""
        for segment in self.segments:
            os.close(segment.descriptor)
        os.close(self.places)


@dataclass(frozen=True, order=True)
class Run:
    """Units that follow each other in a file, and in the memory of a segment."""

    unit: int
    """Number of the first, in its file."""
    count: int
    segment: int
    offset: int
    """Bytes, in the segment."""


def index_runs(segments: Sequence[LentSegment], places: Sequence[int]) -> Mapping[int, list[Run]]:
    """Return where the units of each file are, in order.

    Args:
        segments: what is lent.
        places: of all units that were saved.
    """
    found: dict[int, list[Run]] = {}
    for number, segment in enumerate(segments):
        for at, place in enumerate(places[segment.first : segment.first + segment.size // UNIT]):
            if place:
                unit, file = divmod(place - 1, COPIERS)
                _append(found.setdefault(file, []), Run(unit, 1, number, at * UNIT))
    for runs in found.values():
        runs.sort()
    return found


def _append(runs: list[Run], run: Run) -> None:
    last = runs[-1] if runs else None
    follows = last is not None and (last.unit + last.count, last.segment) == (run.unit, run.segment)
    if last is not None and follows and last.offset + last.count * UNIT == run.offset:
        runs[-1] = Run(last.unit, last.count + 1, last.segment, last.offset)
    else:
        runs.append(run)


def runs_within(runs: Sequence[Run], first: int, count: int) -> Iterator[Run]:
    """Yield what is lent of some units of a file, in order and each unit once.

    Args:
        runs: of the file, in order.
        first: number of the first unit.
        count: how many units.
    """
    end = first + count
    for run in runs[max(0, bisect_right(runs, first, key=lambda each: each.unit) - 1) :]:
        if run.unit >= end:
            return
        skipped = max(0, first - run.unit)
        taken = min(run.unit + run.count, end) - run.unit - skipped
        if taken > 0:
            first = run.unit + skipped + taken
            yield Run(run.unit + skipped, taken, run.segment, run.offset + skipped * UNIT)
