"""How a restore brings a worker's memory back: what was chosen, for which reason, and what came of it. Closed words.

The agent decides it once, before anything is touched, and reports it; a reader of reports believes nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from contract.config.quantities import readable

MOST_CHOICES: Final = 16
"""Of one restore: each part of the memory has a few."""
LARGEST_PART: Final = 2**50
"""Bytes that are believed."""
_FIELDS: Final = 4


class Memory(StrEnum):
    """A part of what a worker has in memory."""

    PRIVATE = "memory"
    SHARED = "shared-memory"
    DEVICE = "device-memory"


class Way(StrEnum):
    """How it comes back."""

    SERVED = "served"
    FILLED = "filled"
    COPIED = "copied"
    KEPT = "kept"
    IMAGE = "image"
    FILES = "files"
    AHEAD = "ahead"
    LENT = "lent"
    LATER = "later"


class Because(StrEnum):
    """Why this way and no other."""

    LARGE = "large"
    SMALL = "small"
    FORKED = "shared-since-fork"
    SWITCHED_OFF = "switched-off"
    LOST_BEFORE = "lost-before"
    NO_SERVER = "no-server"
    CRIU_FAILS = "criu-fails"
    UNGUARDED = "unguarded"
    PARKS = "parks"
    PARKED = "parked"
    CAPTURED_SO = "captured-so"
    ROOM = "room"
    NEIGHBOUR = "neighbour"
    NO_ROOM = "no-room"
    UNKNOWN_CARD = "unknown-card"
    PREFETCH_OFF = "prefetch-off"
    NOT_IN_TIME = "not-in-time"


@dataclass(frozen=True, slots=True)
class Choice:
    """One part of the memory, how it comes back, and why so."""

    memory: Memory
    way: Way
    because: Because
    bytes: int

    def __str__(self) -> str:
        """Say it to people."""
        reason = _REASONS[self.because]
        return f"{_PARTS[self.memory]} ({readable(self.bytes)}) {_WAYS[self.way]}" + (f": {reason}" if reason else "")

    def as_row(self) -> list[str | int]:
        """Write it as a report has it."""
        return [self.memory.value, self.way.value, self.because.value, self.bytes]


_PARTS: Final = {Memory.PRIVATE: "memory", Memory.SHARED: "shared memory", Memory.DEVICE: "device memory"}
_WAYS: Final = {
    Way.SERVED: "filled while it runs",
    Way.FILLED: "filled before it ran",
    Way.COPIED: "copied by criu before it ran",
    Way.KEPT: "kept since it was parked",
    Way.IMAGE: "moved out of the image by the driver",
    Way.FILES: "read from files",
    Way.AHEAD: "read onto the card ahead",
    Way.LENT: "copied ahead from another worker's GPU",
    Way.LATER: "left to the wake",
}
_REASONS: Final = {
    Because.LARGE: "",
    Because.SMALL: "too small to be worth a page server",
    Because.FORKED: "its processes share much of it since a fork",
    Because.SWITCHED_OFF: "config.criu.lazyPages is false",
    Because.CRIU_FAILS: "this criu fails at private mappings of memfds if their memory is left to a page server",
    Because.LOST_BEFORE: "an earlier page server in this pod ended too early",
    Because.NO_SERVER: "no page server could be used, the agent's log says why",
    Because.UNGUARDED: "nothing restarts it, or its standby is older",
    Because.PARKS: "it is stopped then",
    Because.PARKED: "",
    Because.CAPTURED_SO: "it was captured so",
    Because.ROOM: "",
    Because.NEIGHBOUR: "",
    Because.NO_ROOM: "the card has no room for it beside the worker, or is for one process at a time",
    Because.UNKNOWN_CARD: "the artifact does not say of which card it is",
    Because.PREFETCH_OFF: "gpu.prefetch is false, or there is no driver",
    Because.NOT_IN_TIME: "it was not on the card in time",
}
"""Empty for what needs no explanation."""


@dataclass(frozen=True, slots=True)
class MemoryReport:
    """What was planned for a restore, and what came of it."""

    plan: tuple[Choice, ...] = ()
    came: tuple[Choice, ...] = ()
    """The same as the plan if nothing went otherwise."""

    def __str__(self) -> str:
        """Say it in one line; empty if there is nothing to say."""
        words = "; ".join(map(str, self.came))
        otherwise = [choice for choice in self.plan if choice not in self.came]
        return f"{words}; planned was: {'; '.join(map(str, otherwise))}" if otherwise else words

    def as_rows(self) -> dict[str, list[list[str | int]]]:
        """Write it as a report has it."""
        rows = {"plan": [choice.as_row() for choice in self.plan]}
        return rows if self.came == self.plan else rows | {"came": [choice.as_row() for choice in self.came]}


def read_engine(found: Any) -> MemoryReport | None:  # noqa: ANN401 - whatever JSON holds
    """Read it from a report; None if it is not there. A choice with a word that is not known is left out."""
    if not isinstance(found, dict) or not isinstance(found.get("plan"), list):
        return None
    plan = _choices(found["plan"])
    return MemoryReport(plan, _choices(found["came"]) if isinstance(found.get("came"), list) else plan)


def without_empty(choices: Iterable[Choice]) -> tuple[Choice, ...]:
    """Leave out what has no bytes."""
    return tuple(choice for choice in choices if choice.bytes > 0)


def _choices(rows: Sequence[Any]) -> tuple[Choice, ...]:
    found = (_choice(*row) for row in rows[:MOST_CHOICES] if isinstance(row, list) and len(row) == _FIELDS)
    return tuple(choice for choice in found if choice is not None)


def _choice(memory: Any, way: Any, because: Any, size: object) -> Choice | None:  # noqa: ANN401 - whatever JSON holds
    if isinstance(size, bool) or not isinstance(size, int):
        return None
    try:
        return Choice(Memory(memory), Way(way), Because(because), min(max(size, 0), LARGEST_PART))
    except (TypeError, ValueError):
        return None
