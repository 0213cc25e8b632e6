"""Captures and restores as lists of named phases: each is run in order, and undone in reverse when a later one fails.

The names are those of reports and metrics (``contract.api.reports.ReportPhase``).
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from agent.executor.timings import Timings
from contract.api.reports import ReportPhase, Step

State = TypeVar("State")
logger = logging.getLogger(__name__)


def always(_: object) -> bool:
    """Run a phase whatever the worker is."""
    return True


def nothing_to_undo(_: object) -> bool:
    """Undo a phase that changes nothing."""
    return True


@dataclass(frozen=True)
class Phase(Generic[State]):
    """One step of a capture or restore."""

    name: ReportPhase
    run: Callable[[State], Sequence[Step] | None]
    """Raises to fail the whole; may answer the steps within it."""
    undo: Callable[[State], bool] = nothing_to_undo
    """Takes back what ``run`` did, however far it came; True if nothing is left. Must work twice, and without ``run``:
    an agent that comes after one that was killed undoes every phase."""
    is_needed: Callable[[State], bool] = always
    """Asked when its turn comes; a phase that is not needed takes no time and is in no report."""


@dataclass(frozen=True)
class Failure:
    """The phase that failed, why, and whether everything was undone."""

    phase: ReportPhase
    error: Exception
    clean: bool


def may_begin(_: object) -> None:
    """Let a phase begin whatever has become of its container."""


def run_phases(
    phases: Sequence[Phase[State]], state: State, timings: Timings, before: Callable[[State], None] = may_begin
) -> Failure | None:
    """Run all phases, or undo those that were started; *before* raises if the next one may not begin any more."""
    for number, phase in enumerate(phases, start=1):
        try:
            before(state)
            if phase.is_needed(state):
                with timings.phase(phase.name) as steps:
                    steps.extend(phase.run(state) or ())
        except Exception as error:  # noqa: BLE001 - whatever fails, what was started is undone
            with timings.phase(ReportPhase.UNDO):
                clean = undo_phases(phases[:number], state)
            return Failure(phase.name, error, clean)
    return None


def undo_phases(phases: Sequence[Phase[State]], state: State) -> bool:
    """Undo phases in reverse order, each though another's undo failed; True if nothing is left."""
    clean = True
    for phase in reversed(phases):
        try:
            clean = phase.undo(state) and clean
        except Exception:
            logger.exception("cannot undo phase %s", phase.name)
            clean = False
    return clean
