"""Sums of units of device memory: known from files that were read, compared with what came from another worker.

They are taken on the card (``agent.gpu.ahead.kernel``), with a key that never leaves this process and its cards.
Imports the standard library alone, as ``agent.gpu.ahead.prefetcher`` does.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections import OrderedDict

from agent.gpu.ahead.kernel import BLOCKS, CODE, KEY_BYTES, NAME, SUM_BYTES, THREADS
from agent.gpu.ranges import UNIT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from agent.gpu.ahead.device import Card
    from agent.gpu.ahead.registered import Identity

    Sums = dict[int, bytes]
    """Of one file, by number of the unit."""

MOST_FILES: Final = 512
"""Whose sums are known: 100 bytes for each unit of 2 MiB. Those asked for longest ago go first."""
MOST_UNITS: Final = 4096
"""That one call sums: 64 KiB of sums."""
SPACE: Final = MOST_UNITS * SUM_BYTES


class KnownSums:
    """Sums of all files that were read, as long as they are the same files."""

    def __init__(self) -> None:
        self._files: OrderedDict[Identity, Sums] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, identity: Identity) -> Sums:
        """Return those of a file, to look up and to add to."""
        with self._lock:
            found = self._files.setdefault(identity, {})
            self._files.move_to_end(identity)
            if len(self._files) > MOST_FILES:
                self._files.popitem(last=False)
            return found


class Summer:
    """Sums device memory of one card; made in a thread that has entered it.

    Args:
        card: the GPU.
        key: ``KEY_BYTES``, secret; sums of different cards compare if it is the same.

    Raises:
        DriverError: the card cannot run the kernel.
    """

    def __init__(self, card: Card, key: bytes) -> None:
        self._card = card
        self._kernel = card.load(CODE, NAME)
        self._key = card.allocate(2 * UNIT).at
        stream = card.stream()
        source = ctypes.create_string_buffer(key, KEY_BYTES)
        card.copy(self._key, ctypes.addressof(source), KEY_BYTES, stream)
        card.wait(stream)
        self._space = card.allocate(UNIT).at
        self._given = 0
        self._lock = threading.Lock()

    def space(self) -> int:
        """Return device memory for the sums of one thread; there is some for 32."""
        with self._lock:
            self._given += 1
            return self._space + (self._given - 1) % (UNIT // SPACE) * SPACE

    def sums(self, at: int, units: int, space: int, into: int, stream: ctypes.c_void_p) -> list[bytes]:
        """Return the sums of units, in order.

        Args:
            at: device address of the first.
            units: how many follow each other, at most ``MOST_UNITS``.
            space: of this thread.
            into: locked memory of the host, ``SPACE`` bytes.
            stream: on which what is summed was copied.

        Raises:
            DriverError: the card failed.
        """
        size = units * SUM_BYTES
        self._card.clear(space, size, stream)
        self._card.launch(self._kernel, (BLOCKS, units), THREADS, (at, self._key, space), stream)
        self._card.copy_back(into, space, size, stream)
        self._card.wait(stream)
        text = ctypes.string_at(into, size)
        return [text[begin : begin + SUM_BYTES] for begin in range(0, size, SUM_BYTES)]


def new_key() -> bytes:
    """Return a key of this process alone."""
    return os.urandom(KEY_BYTES)
