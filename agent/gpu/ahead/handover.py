"""Copies parts that are on the card into memory of the process that they belong to, as that takes them.

The memory is the process's own, mapped here. The other way round would be a copy less, but the driver gives a process
that was restored onto another card no memory of others (docs/decisions/0044-memory-of-a-running-worker.md).
Imports the standard library alone, as ``agent.gpu.ahead.prefetcher`` does.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from contextlib import ExitStack
from dataclasses import dataclass

from agent.gpu.driver import DriverError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from contextlib import AbstractContextManager
    from typing import Protocol

    from agent.gpu.ahead.buffers import Buffer, Buffers
    from agent.gpu.ahead.device import Memory

    class Mover(Protocol):
        """A card, in a thread that has entered it."""

        def enter(self) -> None:
            """See ``agent.gpu.ahead.device.Card``."""
            ...

        def take(self, descriptor: int, size: int) -> Memory:
            """See there."""
            ...

        def free(self, memory: Memory) -> None:
            """See there."""
            ...

        def copies(self) -> AbstractContextManager[Callable[[int, int, int], None]]:
            """See there."""
            ...


@dataclass(frozen=True)
class Staged:
    """A part that is on the card."""

    number: int
    size: int
    buffer: Buffer
    """What it is in."""
    lent: int
    """Bytes of it that came from another worker."""
    at: float
    """When it was there, by the monotonic clock."""


class Handover:
    """That of one order. The process takes nothing before ``open``, which may never come.

    Args:
        staging: what parts are in; a piece is done when its part was copied.
        size: bytes of each piece, there and of the process.
        say: called with each part that is in a buffer of the process, and the number of the buffer.
    """

    def __init__(self, staging: Buffers, size: int, say: Callable[[Staged, int], object]) -> None:
        self._staging = staging
        self._size = size
        self._say = say
        self._staged: deque[Staged] = deque()
        self._descriptors: list[int] = []
        self._idle: deque[int] = deque()
        self._is_over = self._is_complete = self._is_closed = False
        self._changed = threading.Condition()
        self.error = ""
        """Why no more was copied."""

    def add(self, staged: Staged) -> None:
        """Have a part copied when there is a buffer for it."""
        with self._changed:
            self._staged.append(staged)
            self._changed.notify_all()

    def complete(self) -> None:
        """Know that nothing will be added any more."""
        with self._changed:
            self._is_complete = True
            self._changed.notify_all()

    def open(self, descriptors: Sequence[int]) -> None:
        """Have parts copied to buffers of the process from now on; the descriptors are closed by ``close``."""
        with self._changed:
            if self._is_closed:
                _close(descriptors)
                return
            self._descriptors += descriptors
            self._idle.extend(range(len(descriptors)))
            self._changed.notify_all()

    def done(self, number: int) -> None:
        """Copy into a buffer again."""
        with self._changed:
            self._idle.append(number)
            self._changed.notify_all()

    def end(self) -> None:
        """Copy no more."""
        with self._changed:
            self._is_over = True
            self._changed.notify_all()

    def run(self, card: Mover) -> None:
        """Copy until all is copied, or no more is wanted; for a thread of its own."""
        try:
            with ExitStack() as undo:
                card.enter()
                copy = undo.enter_context(card.copies())
                buffers: dict[int, Memory] = {}
                while (found := self._next()) is not None:
                    staged, number = found
                    if number not in buffers:
                        buffers[number] = card.take(self._descriptors[number], self._size)
                        undo.callback(card.free, buffers[number])
                    copy(buffers[number].at, staged.buffer.memory.at, staged.size)
                    self._staging.done(staged.buffer.number)
                    self._say(staged, number)
        except (OSError, DriverError) as error:
            self.error = str(error)
            self._staging.end()

    def _next(self) -> tuple[Staged, int] | None:
        """Return what is copied next, and which buffer to; None if there will be no more."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._is_over or (self._staged and self._idle) or (self._is_complete and not self._staged)
            )
            if self._is_over or not self._staged:
                return None
            return self._staged.popleft(), self._idle.popleft()

    def close(self) -> None:
        """Close the descriptors, also those that come later."""
        with self._changed:
            self._is_closed = True
            _close(self._descriptors)


def _close(descriptors: Iterable[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
