"""What stays of files for the restores after: page cache that is registered, and sums. No restore waits for it.

Imports the standard library alone, as ``agent.gpu.ahead.prefetcher`` does.
"""

from __future__ import annotations

import os
import queue
import threading
from contextlib import contextmanager
from dataclasses import dataclass

from agent.gpu.ahead.copier import Copier, Part, Source
from agent.gpu.ahead.registered import RegisteredFiles, identity_of, is_short
from agent.gpu.ahead.sums import KnownSums, Summer, new_key
from agent.gpu.driver import DriverError
from agent.gpu.ranges import Ranges, parse_ranges

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Final

    from agent.gpu.ahead.device import Card, Memories
    from agent.gpu.ahead.neighbour import Neighbour

REVIEW_SECONDS: Final = 10.0
"""How often is looked for deleted files, and for memory that the node needs."""
SUMMED_AT_ONCE: Final = 32 << 20
"""Bytes of device memory that this takes while it sums; a worker may have all but a little."""


@dataclass(frozen=True)
class _Job:
    card: Card
    file: int
    registers: bool
    sums: bool


class Keeper:
    """Has files registered and summed by a thread of its own.

    Args:
        memories: of all cards.
        budget: bytes of page cache that may be registered.
        say: sends what came of it.
    """

    def __init__(self, memories: Memories, budget: int, say: Callable[..., object]) -> None:
        self._files = RegisteredFiles(memories, budget, is_short, self._await_restores)
        self._say = say
        self._restores = 0
        self._changed = threading.Condition()
        self._waiting: queue.Queue[_Job] = queue.Queue()
        self._sums = _CardSums()
        threading.Thread(target=self._run, daemon=True).start()

    @contextmanager
    def held(
        self, files: Sequence[int], others: Sequence[int], neighbour: Neighbour | None = None
    ) -> Iterator[Sequence[Source]]:
        """Yield the files, with what is registered of them and stays so meanwhile.

        Args:
            files: of device memory.
            others: what ranges of them are in, and the table of those; empty if all is in the files.
            neighbour: who has some of them on a card.

        Raises:
            RangesError: the table is wrong.
        """
        with self._open(files, others, neighbour) as sources:
            self._count(1)
            try:
                yield sources
            finally:
                self._count(-1)

    def keep(self, card: Card, files: Sequence[int], *, registers: bool, sums: bool) -> None:
        """Have files registered, and summed; the descriptors may be closed then."""
        for file in files if registers or sums else ():
            self._waiting.put(_Job(card, os.dup(file), registers, sums))

    def summer(self, card: Card) -> Summer | None:
        """Return what takes sums on a card; None if the card cannot."""
        return self._sums.summer(card)

    @contextmanager
    def _open(
        self, files: Sequence[int], others: Sequence[int] = (), neighbour: Neighbour | None = None
    ) -> Iterator[Sequence[Source]]:
        """Yield what ``held`` does, for what is no restore too."""
        sources = _sources(files, others) if others else [self._source(*each, neighbour) for each in enumerate(files)]
        try:
            yield sources
        finally:
            for source in sources:
                if source.registered is not None:
                    self._files.let_go(source.registered)

    def _source(self, number: int, file: int, neighbour: Neighbour | None) -> Source:
        return Source(
            file, number, self._files.hold(file), sums=self._sums.known.of(identity_of(file)), neighbour=neighbour
        )

    def _count(self, change: int) -> None:
        with self._changed:
            self._restores += change
            self._changed.notify_all()

    def _await_restores(self) -> None:
        """Wait until no restore reads: beside this its calls of the driver take several times as long."""
        with self._changed:
            self._changed.wait_for(lambda: not self._restores)

    def _run(self) -> None:
        """Do what waits; say what came of it when nothing waits any more."""
        before, refused = (0, 0, ""), ""
        while True:
            try:
                refused = self._next() or refused
            except (OSError, DriverError) as error:
                refused = str(error)
            if not self._waiting.empty():
                continue
            if (now := (self._files.bytes, self._sums.bytes, self._sums.refused)) != before or refused:
                self._say(registered=now[0], refused=refused, summed=now[1], unsummed=self._sums.refused)
            before, refused = now, ""

    def _next(self) -> str:
        try:
            job = self._waiting.get(timeout=REVIEW_SECONDS if self._files.bytes else None)
        except queue.Empty:
            self._files.review()
            return ""
        try:
            job.card.enter()
            refused = self._files.keep(job.file) if job.registers else ""
            if job.sums:
                self._sum(job.card, job.file)
            return refused
        finally:
            os.close(job.file)

    def _sum(self, card: Card, file: int) -> None:
        """Sum all units of a file that are not summed yet."""
        with self._open([file]) as (source,):
            self._sums.add(card, source, os.fstat(file).st_size, self._await_restores)


class _CardSums:
    """Sums of files, and what takes them on each card."""

    def __init__(self) -> None:
        self.known = KnownSums()
        self.bytes = 0
        """Of files that were summed."""
        self.refused = ""
        """Why a card takes none."""
        self._key = new_key()
        self._summers: dict[Card, Summer | None] = {}
        self._copiers: dict[Card, Copier] = {}
        """Of the one thread that adds."""
        self._lock = threading.Lock()

    def summer(self, card: Card) -> Summer | None:
        """Return what takes sums on a card; made when it is first asked for."""
        with self._lock:
            if card not in self._summers:
                try:
                    self._summers[card] = Summer(card, self._key)
                except DriverError as error:
                    self._summers[card], self.refused = None, str(error)
            return self._summers[card]

    def add(self, card: Card, source: Source, size: int, wait: Callable[[], object]) -> None:
        """Read a file onto a card, piece by piece, for the sums alone.

        Args:
            card: the GPU, which this thread has entered.
            source: the file.
            size: of it.
            wait: called before each piece.
        """
        if self.summer(card) is None:
            return
        if card not in self._copiers:
            self._copiers[card] = Copier(card, threading.Semaphore(), self.summer)
        memory = card.allocate(SUMMED_AT_ONCE)
        try:
            for offset in range(0, size, SUMMED_AT_ONCE):
                wait()
                part = Part(0, source, offset, min(SUMMED_AT_ONCE, size - offset))
                self.bytes += self._copiers[card].sum(part, memory.at)
        finally:
            card.free(memory)


def _sources(files: Sequence[int], others: Sequence[int]) -> list[Source]:
    """Return what to copy from, if not all of it is in the files themselves."""
    *sources, table = others
    sizes = [[os.fstat(each).st_size for each in of] for of in (files, sources)]
    ranges = Ranges(parse_ranges(os.pread(table, os.fstat(table).st_size, 0)), *sizes)
    return [Source(file, number, None, ranges, sources) for number, file in enumerate(files)]
