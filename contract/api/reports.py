"""The agent's reports on pods and Jobs, read back: JSON that others could have written, so nothing in it is believed.

What is read is words of closed lists, finite numbers and nothing else: they end up as labels of metrics.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final

from contract.api import keys
from contract.api.engine import Because, Choice, MemoryReport, Way, read_engine
from contract.api.states import AgentReason
from contract.nodes.compatibility import BYPASSABLE

UNKNOWN_REASON: Final = "unknown"
"""A failure whose code is not on our list: an agent of another release wrote it."""
OTHER_PHASE: Final = "other"
"""What no step accounts for, and steps that this release does not know."""
LONGEST: Final = 7 * 86400.0
"""Seconds; no restore and no capture takes a week."""
LARGEST: Final = 2**50
"""Bytes of an artifact that are believed."""
MOST_CONNECTIONS: Final = 10**6
PEERS: Final = 16
"""Closed connections that are named; more are only counted."""
MOST_STEPS: Final = 100
"""Of a time line: five attempts have fewer."""
_STEP_FIELDS: Final = 3
_SHOWN_PEERS: Final = 4
"""Named in a sentence: a message is a line of ``kubectl describe``."""
_PEER: Final = re.compile(r"[0-9.]{7,15}:\d{1,5}|\[[0-9a-f:.%]{2,45}\]:\d{1,5}")


@dataclass(frozen=True)
class ImageConfig:
    """What an image says about its containers."""

    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    user: str = ""
    working_dir: str = ""


class ReportPhase(StrEnum):
    """The agent's steps whose seconds are reported one by one."""

    QUEUE = "queue"
    OPEN = "open"
    VERIFY = "verify"
    VERIFIED = "verified"
    INSPECT = "inspect"
    FILES = "files"
    IPC = "ipc"
    ENTER = "enter"
    CRIU = "criu"
    LOOK = "look"
    VERDICT = "verdict"
    UNDO = "undo"
    PAGES = "pages"
    FILL = "fill"
    GPU_PREFETCH = "gpu-prefetch"
    GPU_AHEAD = "gpu-ahead"
    GPU_LOCK = "gpu-lock"
    GPU_SAVE = "gpu-save"
    GPU_CHECKPOINT = "gpu-checkpoint"
    GPU_RESTORE = "gpu-restore"
    GPU_FILL = "gpu-fill"
    FREEZE = "freeze"
    DUMP = "dump"
    THAW = "thaw"
    WEIGHTS = "weights"
    SEAL = "seal"
    PUBLISH = "publish"
    PROOF = "proof"
    CANARY = "canary"
    PARK = "park"
    WAKE = "wake"
    OTHER = OTHER_PHASE
    TOTAL = "total"


@dataclass(frozen=True, slots=True)
class Step:
    """A part of a restore or capture on its time line. Steps may overlap, and one may be within another."""

    phase: ReportPhase
    start: float
    """Seconds since the container was claimed."""
    seconds: float


class MemoryRestore(StrEnum):
    """How the private memory of a restored worker came back."""

    WHILE_RUNNING = "while-running"
    FILLED_FIRST = "filled-first"
    PARKED = "filled-while-parked"
    SWITCHED_OFF = "copied-switched-off"
    SMALL = "copied-small"
    SHARED = "copied-shared"
    AFTER_LOSS = "copied-after-loss"
    NO_SERVER = "copied-no-server"
    CRIU_FAILS = "copied-criu-fails"

    @property
    def words(self) -> str:
        """What people read; empty for what needs no explanation."""
        return _MEMORY_WORDS[self]


_MEMORY_WORDS: Final = {
    MemoryRestore.WHILE_RUNNING: "its memory is filled while it runs",
    MemoryRestore.FILLED_FIRST: "its memory was filled before it ran: nothing restarts it, or its standby is older",
    MemoryRestore.PARKED: "its memory was filled while it was parked",
    MemoryRestore.SWITCHED_OFF: "its memory was copied before it ran: config.criu.lazyPages is false",
    MemoryRestore.SMALL: "",
    MemoryRestore.SHARED: "its memory was copied before it ran: its processes share much of it since a fork",
    MemoryRestore.AFTER_LOSS: "its memory was copied before it ran: an earlier page server in this pod ended too early",
    MemoryRestore.CRIU_FAILS: "its memory was copied before it ran: this criu can do no other for this worker",
    MemoryRestore.NO_SERVER: "its memory was copied before it ran: the agent's log says why",
}


def memory_word(choice: Choice) -> MemoryRestore:
    """Return the one word for how private memory came back, as reports had it before they had all choices."""
    if choice.way in (Way.FILLED, Way.KEPT):
        return MemoryRestore.FILLED_FIRST if choice.because == Because.UNGUARDED else MemoryRestore.PARKED
    return _COPIED.get(choice.because, MemoryRestore.WHILE_RUNNING)


_COPIED: Final = {
    Because.SWITCHED_OFF: MemoryRestore.SWITCHED_OFF,
    Because.SMALL: MemoryRestore.SMALL,
    Because.FORKED: MemoryRestore.SHARED,
    Because.LOST_BEFORE: MemoryRestore.AFTER_LOSS,
    Because.NO_SERVER: MemoryRestore.NO_SERVER,
    Because.CRIU_FAILS: MemoryRestore.CRIU_FAILS,
}


class HotSet(StrEnum):
    """What became of an artifact's hot set, which says what of the memory is filled first."""

    USED = "used"
    IGNORED = "ignored"

    @property
    def words(self) -> str:
        """What people read; empty for what needs no explanation."""
        return "its hot set was not used: the agent's log says why" if self is HotSet.IGNORED else ""


@dataclass(frozen=True, slots=True)
class Connections:
    """What became of the worker's TCP connections."""

    kept: int
    closed: int
    peers: tuple[str, ...] = ()
    """Some of those that the closed ones led to."""

    def __str__(self) -> str:
        """Say it to people; empty if nothing was closed."""
        if not self.closed:
            return ""
        word = "connection was" if self.closed == 1 else "connections were"
        shown = ", ".join(self.peers[:_SHOWN_PEERS])
        more = ", ..." if len(self.peers) > _SHOWN_PEERS else ""
        return f"{self.closed} TCP {word} closed ({shown}{more})" if shown else f"{self.closed} TCP {word} closed"


def remarks(
    connections: Connections | None,
    memory: MemoryRestore | None,
    engine: MemoryReport | None = None,
    hot: HotSet | None = None,
) -> str:
    """Say what a restore that went well changed, and how memory came back; each remark begins with a semicolon."""
    words = memory.words if memory is not None else ""
    found = (str(connections or ""), str(engine) if engine is not None else words, hot.words if hot is not None else "")
    return "".join(f"; {remark}" for remark in found if remark)


@dataclass(frozen=True, slots=True)
class Report:
    """How one restore or capture ended."""

    container: str
    ok: bool
    reason: str
    """A value of ``AgentReason`` or ``UNKNOWN_REASON``; empty if it went well."""
    seconds: Mapping[ReportPhase, float]
    size: int
    """Bytes of the artifact."""
    at: datetime | None = None
    """When it was written, by the node's clock; None if an agent of an earlier release wrote it."""
    connections: Connections | None = None
    """None if it failed, or an agent of an earlier release wrote it."""
    memory: MemoryRestore | None = None
    """None of a capture, if it failed, or if an agent of an earlier release wrote it."""
    engine: MemoryReport | None = None
    """What was planned for the worker's memory, and what came of it; None as of *memory*."""
    hot: HotSet | None = None
    """None if the artifact has none, or as for ``memory``."""
    bypassed: tuple[AgentReason, ...] = ()
    """Checks that the restore did not pass and did not have to."""
    tried: tuple[str, ...] = ()
    """Reasons of the attempts before the last one."""
    steps: tuple[Step, ...] = ()
    """The time line; empty if an agent of an earlier release wrote it."""


def read_report(text: str) -> Report | None:
    """Parse the report in an annotation's value; None if it is none."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict) or found.get("outcome") not in ("restored", "captured", "failed"):
        return None
    ok = found["outcome"] != "failed"
    return Report(
        container=str(found.get("container", "")),
        ok=ok,
        reason="" if ok else _reason(found.get("reason")),
        seconds=_seconds(found.get("seconds")),
        size=int(_number(found.get("bytes"), LARGEST)),
        at=_moment(found.get("at")),
        connections=_connections(found.get("connections")),
        memory=_memory(found.get("memory")),
        engine=read_engine(found.get("engine")),
        hot=_hot(found.get("hotSet")),
        bypassed=_bypassed(found.get("bypassed")),
        tried=_tried(found.get("tried")),
        steps=_steps(found.get("steps")),
    )


@dataclass(frozen=True, slots=True)
class Filled:
    """A worker's memory is all there: what a page server did while the worker ran already."""

    step: Step
    bytes: int
    faults: int
    """Pages that the worker asked for before their turn came."""

    def as_note(self, at: object) -> str:
        """Write it for the pod; *at* is the moment in the report that it belongs to."""
        row = [self.step.phase.value, round(self.step.start, 4), round(self.step.seconds, 4)]
        return json.dumps({"at": at, "step": row, "bytes": self.bytes, "faults": self.faults}, separators=(",", ":"))


def with_fill(report: Report, text: str) -> Report:
    """Return a report with the fill on its time line, if the annotation's value *text* is of that very report."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return report
    steps = _steps([found.get("step")]) if isinstance(found, dict) else ()
    if not steps or report.at is None or _moment(found.get("at")) != report.at:
        return report
    return replace(report, steps=tuple(sorted((*report.steps, *steps), key=lambda step: (step.start, -step.seconds))))


def _steps(found: Any) -> tuple[Step, ...]:  # noqa: ANN401 - whatever JSON holds
    rows = found[:MOST_STEPS] if isinstance(found, list) else []
    return tuple(_step(*row) for row in rows if isinstance(row, list) and len(row) == _STEP_FIELDS)


def _step(name: object, start: object, seconds: object) -> Step:
    return Step(_phase(name), _number(start, LONGEST), _number(seconds, LONGEST))


def _tried(found: Any) -> tuple[str, ...]:  # noqa: ANN401 - whatever JSON holds
    return tuple(map(_reason, found[: keys.MAX_ATTEMPTS])) if isinstance(found, list) else ()


def _memory(found: Any) -> MemoryRestore | None:  # noqa: ANN401 - whatever JSON holds
    return MemoryRestore(found) if isinstance(found, str) and found in set(MemoryRestore) else None


def _hot(found: Any) -> HotSet | None:  # noqa: ANN401 - whatever JSON holds
    return HotSet(found) if isinstance(found, str) and found in set(HotSet) else None


def _bypassed(found: object) -> tuple[AgentReason, ...]:
    return tuple(reason for reason in BYPASSABLE if isinstance(found, list) and reason in found)


def _connections(found: Any) -> Connections | None:  # noqa: ANN401 - whatever JSON holds
    if not isinstance(found, dict):
        return None
    peers = found.get("peers")
    return Connections(
        kept=int(_number(found.get("kept"), MOST_CONNECTIONS)),
        closed=int(_number(found.get("closed"), MOST_CONNECTIONS)),
        peers=tuple(peer for peer in peers if isinstance(peer, str) and _PEER.fullmatch(peer))[:PEERS]
        if isinstance(peers, list)
        else (),
    )


def _reason(found: object) -> str:
    return str(found) if isinstance(found, str) and found in set(AgentReason) else UNKNOWN_REASON


def _seconds(found: Any) -> dict[ReportPhase, float]:  # noqa: ANN401 - whatever JSON holds
    seconds: dict[ReportPhase, float] = {}
    for name, value in found.items() if isinstance(found, dict) else ():
        phase = _phase(name)
        seconds[phase] = seconds.get(phase, 0.0) + _number(value, LONGEST)
    return seconds


def _phase(name: object) -> ReportPhase:
    return ReportPhase(name) if isinstance(name, str) and name in set(ReportPhase) else ReportPhase.OTHER


def _moment(found: object) -> datetime | None:
    try:
        moment = datetime.fromisoformat(found) if isinstance(found, str) else None
        return moment.astimezone(UTC) if moment is not None and moment.tzinfo is not None else None
    except (ValueError, OverflowError):
        return None


def _number(found: object, most: float) -> float:
    """Return a number from 0 to *most*; anything that is no number counts as 0."""
    if isinstance(found, bool) or not isinstance(found, int | float):
        return 0.0
    if isinstance(found, float) and math.isnan(found):
        return 0.0
    return float(min(max(found, 0), most))
