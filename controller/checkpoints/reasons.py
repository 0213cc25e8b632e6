"""Why a checkpoint is in its phase: reasons of conditions and Events, a closed list that alerts may match."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from contract.api.checkpoint import WORKLOAD_GONE
from kube.recorder import EventSpec


class Reason(StrEnum):
    """One CamelCase word; the message beside it says what to do."""

    # Phases
    PENDING = "Pending"
    CREATING = "Creating"
    CHECKPOINT_READY = "CheckpointReady"
    CHECKPOINT_FAILED = "CheckpointFailed"
    # Before there is a Job
    INVALID_ID = "InvalidCheckpointID"
    DUPLICATE_ID = "DuplicateCheckpointID"
    GMS_DISABLED = "GMSSnapshotDisabled"
    TEMPLATE_ACCEPTED = "TemplateAccepted"
    TEMPLATE_INVALID = "TemplateInvalid"
    JOB_FORBIDDEN = "JobForbidden"
    JOB_NOT_OURS = "JobNotOurs"
    # Storage
    STORAGE_INVALID = "StorageInvalid"
    AGENT_MOUNTS_STORAGE = "AgentMountsStorage"
    VOLUME_CLAIM_FOUND = "VolumeClaimFound"
    VOLUME_CLAIM_CREATED = "VolumeClaimCreated"
    VOLUME_CLAIM_MISSING = "VolumeClaimMissing"
    VOLUME_CLAIM_REFUSED = "VolumeClaimRefused"
    VOLUME_CLAIM_LOST = "VolumeClaimLost"
    AGENT_MISSING = "AgentMissing"
    AGENT_NOT_READY = "AgentNotReady"
    AGENT_STORAGE_DIFFERS = "AgentStorageDiffers"
    STORAGE_CHANGED = "StorageChanged"
    # The Job
    JOB_CREATED = "JobCreated"
    JOB_DELETED = "JobDeleted"
    JOB_SUCCEEDED = "JobSucceeded"
    JOB_FAILED = "JobFailed"
    VERIFICATION_FAILED = "CheckpointVerificationFailed"
    RETRY_SCHEDULED = "RetryScheduled"
    WORKLOAD_GONE = WORKLOAD_GONE
    # An artifact that is in storage already
    ADOPTION_RUNNING = "AdoptionRunning"
    ADOPTION_BLOCKED = "AdoptionBlocked"
    ADOPTED = "Adopted"
    ADOPTION_FAILED = "AdoptionFailed"
    # Its pod
    SCHEDULED = "Scheduled"
    UNSCHEDULABLE = "Unschedulable"
    POD_NOT_CREATED = "PodNotCreated"
    CONTAINER_NOT_STARTED = "ContainerNotStarted"
    IMAGE_NOT_PULLED = "ImageNotPulled"
    NO_AGENT = "NoAgent"
    # Deletion
    CLEANUP_RUNNING = "CleanupRunning"
    CLEANUP_FAILED = "CleanupFailed"
    CLEANUP_BLOCKED = "CleanupBlocked"
    ARTIFACT_REMOVED = "ArtifactRemoved"
    ARTIFACT_KEPT = "ArtifactKept"
    # Retention
    VERSION_REMOVED = "VersionRemoved"
    CHECKPOINT_EXPIRED = "CheckpointExpired"
    RETENTION_DRY_RUN = "RetentionDryRun"
    QUOTA_EXCEEDED = "QuotaExceeded"


NORMAL: Final = frozenset(
    {
        Reason.CHECKPOINT_READY,
        Reason.JOB_CREATED,
        Reason.ADOPTION_RUNNING,
        Reason.ADOPTED,
        Reason.CLEANUP_RUNNING,
        Reason.ARTIFACT_REMOVED,
        Reason.ARTIFACT_KEPT,
        Reason.VERSION_REMOVED,
        Reason.CHECKPOINT_EXPIRED,
        Reason.RETENTION_DRY_RUN,
        Reason.WORKLOAD_GONE,
    }
)
"""Events that need no attention; all others are Warnings: something needs a person, or was lost."""


def note(reason: Reason, message: str) -> EventSpec:
    """Return an Event of the type that its reason has."""
    return EventSpec("Normal" if reason in NORMAL else "Warning", reason, message)


@dataclass(frozen=True, slots=True)
class Problem:
    """What keeps a checkpoint from going on, in words that say what to do."""

    reason: Reason
    message: str
