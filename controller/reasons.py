"""Why a checkpoint is where it is: reasons of conditions and Events, a closed list that alerts may match."""

from dataclasses import dataclass
from enum import StrEnum

from contract.checkpoint import CLAIM_MISSING


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
    VOLUME_CLAIM_MISSING = CLAIM_MISSING
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
    # An artifact that is in storage already
    ADOPTION_RUNNING = "AdoptionRunning"
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


@dataclass(frozen=True, slots=True)
class Problem:
    """What keeps a checkpoint from going on, in words that say what to do."""

    reason: Reason
    message: str
