"""Device memory that parts of files pass through: filled, copied to memory of the worker's own, filled again.

A new allocation for each part costs a sixth of the bus: the driver clears what is freed, and holds locks that the
copies wait for (48 against 55 GB/s on an H200 with nothing else at work, 40 beside a restore).
Imports the standard library alone, as ``agent.gpu.ahead.prefetcher`` does.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass

from agent.gpu.ahead.device import Memory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    class Allocator(Protocol):
        """A card, in a thread that has entered it."""

        def allocate(self, size: int) -> Memory:
            """See ``agent.gpu.ahead.device.Card``."""
            ...

        def free(self, memory: Memory) -> None:
            """See there."""
            ...


@dataclass(frozen=True)
class Buffer:
    """One piece of it."""

    number: int
    memory: Memory


class Buffers:
    """Those of one order.

    Args:
        size: bytes of each.
        room: bytes that they may have together; one there may be in any case.
    """

    def __init__(self, size: int, room: int) -> None:
        self._size = size
        self._left = max(1, room // size)
        self._all: dict[int, Buffer] = {}
        self._idle: list[Buffer] = []
        self._is_over = False
        self._changed = threading.Condition()

    def take(self, card: Allocator) -> Buffer | None:
        """Return one that may be filled, when there is one; None if no more are wanted.

        Raises:
            DriverError: the card has no memory left.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._is_over or self._idle or self._left)
            if self._is_over:
                return None
            if self._idle:
                return self._idle.pop()
            self._left -= 1
        return self._make(card)

    def done(self, number: int) -> None:
        """Have a buffer filled again: its bytes are where they belong."""
        with self._changed:
            if (buffer := self._all.get(number)) is not None:
                self._idle.append(buffer)
                self._changed.notify_all()

    def end(self) -> None:
        """Want no more."""
        with self._changed:
            self._is_over = True
            self._changed.notify_all()

    def free(self, card: Allocator) -> None:
        """Let go of all of them."""
        with self._changed:
            gone, self._all, self._idle = list(self._all.values()), {}, []
        for buffer in gone:
            card.free(buffer.memory)

    def _make(self, card: Allocator) -> Buffer:
        memory = card.allocate(self._size)
        with self._changed:
            made = Buffer(len(self._all), memory)
            self._all[made.number] = made
        return made
