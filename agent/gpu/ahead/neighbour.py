"""Another worker's device memory, mapped here for the card that it is copied to.

Imports the standard library alone, as ``agent.gpu.ahead.prefetcher`` does.
"""

from __future__ import annotations

import array
import os
import threading
from contextlib import suppress

from agent.gpu.ahead.lent import MOST_PLACES, PLACE_BYTES, Lent, Run, index_runs, runs_within
from agent.gpu.driver import DriverError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Protocol

    from agent.gpu.ahead.device import Memory

    class Importer(Protocol):
        """A card, in a thread that has entered it."""

        def take(self, descriptor: int, size: int) -> Memory:
            """See ``agent.gpu.ahead.device.Card``."""
            ...

        def is_linked(self, memory: Memory) -> bool:
            """See there."""
            ...

        def free(self, memory: Memory) -> None:
            """See there."""
            ...


class Neighbour:
    """What one worker lends. Each piece is mapped when it is first copied from.

    Args:
        card: that copies.
        lent: closed with this.
    """

    def __init__(self, card: Importer, lent: Lent) -> None:
        self._card = card
        self._lent = lent
        self._runs = index_runs(lent.segments, _read_places(lent.places))
        self._mapped: dict[int, Memory] = {}
        self._lock = threading.Lock()
        self.refused = ""
        """Why nothing more is taken."""

    def runs(self, file: int, first: int, count: int) -> Iterator[Run]:
        """Yield what it has of some units of a file, in order."""
        return runs_within(self._runs.get(file, ()), first, count)

    def address(self, run: Run) -> int | None:
        """Return where a run is, for the card; None if it cannot be had."""
        with self._lock:
            memory = None if self.refused else self._mapped.get(run.segment) or self._map(run.segment)
            return memory.at + run.offset if memory is not None else None

    def _map(self, number: int) -> Memory | None:
        segment = self._lent.segments[number]
        try:
            taken = self._mapped[number] = self._card.take(segment.descriptor, segment.size)
            if self._card.is_linked(taken):
                return taken
            self.refused = "no link joins its GPU to this one but the bus, by which page cache is read as well"
        except DriverError as error:
            self.refused = str(error)
        return None

    def close(self) -> None:
        """Let go of the memory, when nothing copies from it any more; its owner may have done so long since."""
        with self._lock:
            self.refused = "closed"
            for memory in self._mapped.values():
                with suppress(DriverError):
                    self._card.free(memory)
            self._mapped.clear()
            self._lent.close()


def _read_places(descriptor: int) -> array.array[int]:
    """Read the file as it is now: the worker may still write to it."""
    places = array.array("I")
    text = os.pread(descriptor, MOST_PLACES * PLACE_BYTES, 0)
    places.frombytes(text[: len(text) // PLACE_BYTES * PLACE_BYTES])
    return places
