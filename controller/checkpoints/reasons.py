"""Why a checkpoint is in its phase: reasons of conditions and Events, a closed list that alerts may match."""

from dataclasses import dataclass
from typing import Final

from contract.api.states import CheckpointReason
from kube.recorder import EventSpec

NORMAL: Final = frozenset(
    {
        CheckpointReason.CHECKPOINT_READY,
        CheckpointReason.JOB_CREATED,
        CheckpointReason.POD_CAPTURE_STARTED,
        CheckpointReason.ADOPTION_RUNNING,
        CheckpointReason.ADOPTED,
        CheckpointReason.CLEANUP_RUNNING,
        CheckpointReason.ARTIFACT_REMOVED,
        CheckpointReason.ARTIFACT_KEPT,
        CheckpointReason.VERSION_REMOVED,
        CheckpointReason.CHECKPOINT_EXPIRED,
        CheckpointReason.RETENTION_DRY_RUN,
        CheckpointReason.WORKLOAD_GONE,
        CheckpointReason.RESTORES_RESUMED,
    }
)
"""Events that need no attention; all others are Warnings: something needs a person, or was lost."""


def note(reason: CheckpointReason, message: str) -> EventSpec:
    """Return an Event of the type that its reason has."""
    return EventSpec("Normal" if reason in NORMAL else "Warning", reason, message)


@dataclass(frozen=True, slots=True)
class Problem:
    """What keeps a checkpoint from going on, in words that say what to do."""

    reason: CheckpointReason
    message: str
