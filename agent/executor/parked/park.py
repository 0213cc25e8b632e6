"""The first half: all that a restore does before the devices; then the tree is left to standby, stopped."""

from collections.abc import Sequence
from typing import Final

from agent.executor.phases import Phase
from agent.executor.restore.state import Restore
from contract.api.reports import ReportPhase

AT_THE_WAKE: Final = frozenset(
    {ReportPhase.GPU_PREFETCH, ReportPhase.GPU_RESTORE, ReportPhase.CANARY, ReportPhase.VERDICT}
)
"""Phases that take a device, or let the worker run."""


def park_phases(restore: Sequence[Phase[Restore]]) -> tuple[Phase[Restore], ...]:
    """Return the phases of a restore that ends with a parked worker; pure."""
    return (*(phase for phase in restore if phase.name not in AT_THE_WAKE), Phase(ReportPhase.PARK, _park))


def _park(restore: Restore) -> None:
    """Have standby wait without a limit; nothing can fail after it."""
    restore.lock.park(restore.plan.worker_pid, restore.artifact.digest)
