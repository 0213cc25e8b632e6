"""Phases, conditions, policies and statuses: the closed lists of values that travel between processes."""

from enum import StrEnum


class Phase(StrEnum):
    """``status.phase`` of a DynamoCheckpoint."""

    PENDING = "Pending"
    CREATING = "Creating"
    READY = "Ready"
    FAILED = "Failed"


class ConditionType(StrEnum):
    """Condition types of a DynamoCheckpoint."""

    READY = "Ready"
    JOB_CREATED = "JobCreated"
    JOB_COMPLETED = "JobCompleted"
    TEMPLATE_VALID = "TemplateValid"
    STORAGE_READY = "StorageReady"
    SCHEDULED = "Scheduled"


class CaptureStatus(StrEnum):
    """Value of the Job annotation ``nvidia.com/snapshot-checkpoint-status``; both are final."""

    COMPLETED = "completed"
    FAILED = "failed"


class RestoreStatus(StrEnum):
    """Value of the pod annotation ``nvidia.com/snapshot-restore-status.<container>``."""

    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    FAILED = "failed"


class StartupPolicy(StrEnum):
    """What new pods do while their checkpoint is being made."""

    IMMEDIATE = "Immediate"
    WAIT_FOR_CHECKPOINT = "WaitForCheckpoint"


class GateEnd(StrEnum):
    """Why a held pod was let go, on the pod itself."""

    CHECKPOINT_READY = "checkpoint-ready"
    CHECKPOINT_FAILED = "checkpoint-failed"
    CHECKPOINT_DELETED = "checkpoint-deleted"
    WAIT_TIMEOUT = "wait-timeout"


class DeletionPolicy(StrEnum):
    """What becomes of an automatic checkpoint when its graph deployment goes."""

    DELETE = "Delete"
    RETAIN = "Retain"


class ReadySignal(StrEnum):
    """The moment of capture: a file written by the worker, or its own probes."""

    FILE = "File"
    PROBE = "Probe"


class AccessMode(StrEnum):
    """How the agent reaches checkpoint storage: through its own mount or through the worker pod's."""

    AGENT_MOUNT = "agentMount"
    POD_MOUNT = "podMount"


class Admission(StrEnum):
    """Value of ``nvidia.com/snapshot-admission``, a closed list; docs/reasons.md explains each."""

    RESTORE_SHAPED = "restore-shaped"
    NOT_A_CREATE = "not-a-create"
    CHECKPOINT_DISABLED = "checkpoint-disabled"
    NAMESPACE_EXCLUDED = "namespace-excluded"
    ALREADY_SHAPED = "already-shaped"
    NOT_OPTED_IN = "not-opted-in"
    CHECKPOINT_NAME_MISSING = "checkpoint-name-missing"
    NOT_OPERATOR_STAMPED = "not-operator-stamped"
    CHECKPOINT_NOT_FOUND = "checkpoint-not-found"
    CHECKPOINT_NOT_READY = "checkpoint-not-ready"
    CHECKPOINT_FAILED = "checkpoint-failed"
    CHECKPOINT_DELETING = "checkpoint-deleting"
    CHECKPOINT_ID_UNAVAILABLE = "checkpoint-id-unavailable"
    TARGETS_INVALID = "targets-invalid"
    STORAGE_UNAVAILABLE = "storage-unavailable"
    IMAGE_MISMATCH = "image-mismatch"
    POD_UNSUPPORTED = "pod-unsupported"
    CHECKPOINT_REQUESTED = "checkpoint-requested"
    HELD = "held"
    ENTRYPOINT_UNKNOWN = "entrypoint-unknown"
    PER_POD_IDENTITY = "per-pod-identity"
    NO_READY_SIGNAL = "no-ready-signal"
    WEBHOOK_UNREACHABLE = "webhook-unreachable"
