"""Has files of an artifact read into device memory while the process that they belong to is still being restored.

The work is done by a resident process (``agent.gpu.ahead.resident``). Nothing depends on it: what it has not filled in
time the restored process reads from the files itself.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from agent.gpu.ahead.lent import Lent
from agent.gpu.ranges import NOWHERE, Elsewhere

PART: Final = 256 << 20
"""Bytes of a file that are one piece of memory; ``native/device_memory/parts.c`` has the same."""
BUFFERS: Final = 4
"""Pieces of a restored process's own memory that parts come through: some are filled while it copies another."""
_CONTEXT: Final = 1 << 30
"""Device memory of the process that fills."""
Lender = Callable[[], Lent | None]
"""Asks a running worker for its memory, in some milliseconds; None if it does not answer."""


@dataclass(frozen=True)
class Part:
    """A part of one of several files."""

    file: int
    """Which of them."""
    offset: int
    size: int


@dataclass(frozen=True)
class Filled:
    """A part of a file that is in device memory of the process that it belongs to."""

    part: Part
    buffer: int
    """Which of the process's buffers."""
    lent: int = 0
    """Bytes of the part that came from the memory of another worker."""


@dataclass(frozen=True)
class Came:
    """What came of one order."""

    since: float
    """When it was given, by the monotonic clock."""
    until: float
    """When its last part was on the card, of those that were taken."""
    bytes: int
    """That were taken from there."""
    lent: int = 0
    """Those of them that came from the memory of another worker."""


def share_room(wanted: Sequence[int], spare: int) -> list[int]:
    """Return how much device memory each process's parts may take before they are in its own.

    Args:
        wanted: bytes that all parts of each would take.
        spare: device memory that is free there and will not be the worker's.
    """
    through = sum(min(own, BUFFERS * PART) for own in wanted)
    room = max(0, spare - _CONTEXT - through)
    shares = [min(own, room * own // max(1, sum(wanted))) for own in wanted]
    return [share if share >= min(own, PART) else 0 for share, own in zip(shares, wanted, strict=True)]


def room_of(parts: Sequence[Part]) -> int:
    """Return the device memory that parts take at once: each as much as the largest, also the last one of a file."""
    return len(parts) * max((part.size for part in parts), default=0)


def plan_parts(sizes: Sequence[int]) -> list[Part]:
    """Cut files into parts, in the order in which a worker's memory was saved: the first of each file, then the second.

    Args:
        sizes: of the files.
    """
    return [
        Part(file, offset, min(PART, size - offset))
        for offset in range(0, max(sizes, default=0), PART)
        for file, size in enumerate(sizes)
        if offset < size
    ]


class Prefetch(Protocol):
    """Parts of one process's files, on their way to the card; its holder closes it."""

    @property
    def parts(self) -> Sequence[Part]:
        """What was ordered."""
        ...

    def filled(self, buffers: Sequence[int], seconds: float) -> Iterator[Filled]:
        """Have parts copied into memory of the process that they belong to; yield each that is there.

        Ends when all parts came, when one could not be filled, when they come too slowly, or after that time. If it is
        called again, with the same memory, it goes on.

        Args:
            buffers: descriptors of that memory, each as large as the largest part; they may be closed then.
            seconds: how long it may take.
        """
        ...

    def done(self, filled: Filled, *, copied: bool) -> None:
        """Have the buffer of a part filled again: its bytes are where they belong, or are to be read from the file."""
        ...

    def close(self) -> None:
        """Let go of what was not taken; the card's memory is free in a moment."""
        ...

    def came(self) -> Came:
        """Say what came of it so far."""
        ...


class Prefetcher(Protocol):
    """Reads files into device memory."""

    def prepare(self) -> None:
        """Start what takes a moment: there is soon something to do."""
        ...

    def start(
        self,
        device: str,
        files: Sequence[int],
        parts: Sequence[Part],
        room: int,
        *,
        keeps: bool,
        elsewhere: Elsewhere = NOWHERE,
        lender: Lender | None = None,
    ) -> Prefetch:
        """Begin to fill parts, in their order; the descriptors may be closed then.

        Args:
            device: UUID of the card.
            files: that the parts are of.
            parts: what to fill.
            room: bytes of device memory that it may take.
            keeps: whether the files are the node's, which may stay open for the next restore; that then is faster.
            elsewhere: what of the files is in others.
            lender: asked, in a thread, for memory of a worker that was filled from the same files.
        """
        ...


class NoPrefetcher:
    """What a node without GPUs has."""

    def prepare(self) -> None:
        """See ``Prefetcher``."""

    def start(self, *_: object, **__: object) -> Prefetch:
        """See ``Prefetcher``."""
        return self

    @property
    def parts(self) -> Sequence[Part]:
        """See ``Prefetch``."""
        return ()

    def filled(self, buffers: Sequence[int], seconds: float) -> Iterator[Filled]:  # noqa: ARG002
        """See ``Prefetch``."""
        return iter(())

    def done(self, filled: Filled, *, copied: bool) -> None:
        """See ``Prefetch``."""

    def close(self) -> None:
        """See ``Prefetch``."""

    def came(self) -> Came:
        """See ``Prefetch``."""
        return Came(0.0, 0.0, 0)
