"""Phases, conditions, policies and statuses: the closed lists of values that travel between processes."""

from enum import StrEnum
from typing import Final


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
    ADOPTED = "Adopted"
    COMPATIBLE = "Compatible"
    RESTORES_FAILING = "RestoresFailing"


class CaptureStatus(StrEnum):
    """Value of the Job annotation ``nvidia.com/snapshot-checkpoint-status``; both are final."""

    COMPLETED = "completed"
    FAILED = "failed"


class Proof(StrEnum):
    """``status.proof`` of a DynamoCheckpoint: what was done with the artifact before it became Ready."""

    RESTORED = "Restored"
    """It was restored where it was captured, and served."""
    READ = "Read"
    """All of it was read and compared with its checksums."""


class RestoreStatus(StrEnum):
    """Value of the pod annotation ``nvidia.com/snapshot-restore-status.<container>``."""

    IN_PROGRESS = "in_progress"
    PARKED = "parked"
    """Restored but for its devices, and stopped until it is woken."""
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
    JOB_DEADLINE = "job-deadline"
    VOLUME_CLAIM_UNAVAILABLE = "volume-claim-unavailable"
    UNINSTALLED = "uninstalled"


class GateEvent(StrEnum):
    """Reasons of Events about held pods; docs/reasons.md explains each."""

    LIFTED = "GateLifted"
    KEPT = "GateKept"
    """It may go only as a restore, and there is nothing to restore."""
    REFUSED = "GateNotLifted"
    """The API server does not let us."""


class RestoreEvent(StrEnum):
    """Reasons of the controller's Events about restores; docs/reasons.md explains each."""

    AGENT_SILENT = "AgentSilent"


class DeletionPolicy(StrEnum):
    """What becomes of an automatic checkpoint when its graph deployment is deleted."""

    DELETE = "Delete"
    RETAIN = "Retain"


class GraphState(StrEnum):
    """``status.state`` of a DynamoGraphDeployment."""

    PENDING = "pending"
    SUCCESSFUL = "successful"
    FAILED = "failed"


class GraphCondition(StrEnum):
    """Condition types of a DynamoGraphDeployment."""

    READY = "Ready"
    CHECKPOINTS_RESOLVED = "CheckpointsResolved"
    STARTED_COLD = "StartedCold"


class CheckpointReason(StrEnum):
    """Reasons of conditions and Events of a DynamoCheckpoint; docs/checkpoint-reasons.md explains each."""

    # Phases
    PENDING = "Pending"
    CREATING = "Creating"
    CHECKPOINT_READY = "CheckpointReady"
    CHECKPOINT_FAILED = "CheckpointFailed"
    # Before there is a Job
    INVALID_ID = "InvalidCheckpointID"
    DUPLICATE_ID = "DuplicateCheckpointID"
    GMS_DISABLED = "GMSSnapshotDisabled"
    ACCELERATOR_UNSUPPORTED = "AcceleratorUnsupported"
    CLAIM_TEMPLATE_MISSING = "ClaimTemplateMissing"
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
    # A running pod
    POD_CAPTURE_STARTED = "PodCaptureStarted"
    POD_CAPTURED = "PodCaptured"
    POD_CAPTURE_FAILED = "PodCaptureFailed"
    POD_CAPTURE_NOT_REQUESTED = "PodCaptureNotRequested"
    SOURCE_POD_GONE = "SourcePodGone"
    WORKLOAD_GONE = "WorkloadGone"
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
    # Nodes that could restore it
    NODES_COMPATIBLE = "NodesCompatible"
    NO_NODES = "NoNodes"
    ARCHITECTURE_MISMATCH = "ArchitectureMismatch"
    CPU_MISMATCH = "CPUMismatch"
    KERNEL_MISMATCH = "KernelMismatch"
    CRIU_MISMATCH = "CRIUMismatch"
    GPU_MISMATCH = "GPUMismatch"
    # Deletion
    CLEANUP_RUNNING = "CleanupRunning"
    CLEANUP_FAILED = "CleanupFailed"
    CLEANUP_BLOCKED = "CleanupBlocked"
    ARTIFACT_REMOVED = "ArtifactRemoved"
    ARTIFACT_KEPT = "ArtifactKept"
    # What a node can keep of it
    LARGER_THAN_PAGE_CACHE = "LargerThanPageCache"
    # Retention
    VERSION_REMOVED = "VersionRemoved"
    CHECKPOINT_EXPIRED = "CheckpointExpired"
    RETENTION_DRY_RUN = "RetentionDryRun"
    QUOTA_EXCEEDED = "QuotaExceeded"
    # Its restores
    RESTORES_FAILING = "RestoresFailing"
    RESTORES_RESUMED = "RestoresResumed"


class GraphReason(StrEnum):
    """Reasons of conditions and Events of a DynamoGraphDeployment; those in snake case are the platform's own."""

    ALL_READY = "all_resources_are_ready"
    SOME_NOT_READY = "some_resources_are_not_ready"
    WAITING = "waiting_for_checkpoint"
    NOT_RECONCILED = "failed_to_reconcile_the_resources"
    RESOLVED = "CheckpointsResolved"
    CHECKPOINT_NOT_FOUND = "CheckpointNotFound"
    CHECKPOINT_REFUSED = "CheckpointRefused"
    CHECKPOINT_FAILED = "CheckpointFailed"
    WAIT_TIMED_OUT = "WaitTimedOut"
    CHECKPOINT_READY = "CheckpointReady"
    CHECKPOINT_CREATED = "CheckpointCreated"
    CHECKPOINTS_DISABLED = "CheckpointsDisabled"
    GMS_DISABLED = "GMSSnapshotDisabled"
    NOT_A_WORKER = "NotAWorker"
    TARGET_MISSING = "TargetContainerMissing"
    NAME_TAKEN = "NameTaken"
    SERVICE_INVALID = "ServiceInvalid"
    DEPLOYMENT_REFUSED = "DeploymentRefused"
    DEPLOYMENT_REMOVED = "DeploymentRemoved"


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
    RESTORES_FAILING = "restores-failing"
    CHECKPOINT_ID_UNAVAILABLE = "checkpoint-id-unavailable"
    TARGETS_INVALID = "targets-invalid"
    STORAGE_UNAVAILABLE = "storage-unavailable"
    VOLUME_CLAIM_UNAVAILABLE = "volume-claim-unavailable"
    IMAGE_MISMATCH = "image-mismatch"
    BYPASS_INVALID = "bypass-invalid"
    OS_UNSUPPORTED = "os-unsupported"
    POD_UNSUPPORTED = "pod-unsupported"
    ACCELERATOR_UNSUPPORTED = "accelerator-unsupported"
    PARKED_EXCLUSIVE_GPU = "parked-exclusive-gpu"
    ARCHITECTURE_MISMATCH = "architecture-mismatch"
    CHECKPOINT_REQUESTED = "checkpoint-requested"
    CAPTURABLE = "capturable"
    PLACEHOLDER = "placeholder"
    STANDBY_INVALID = "standby-invalid"
    HELD = "held"
    ENTRYPOINT_UNKNOWN = "entrypoint-unknown"
    PER_POD_IDENTITY = "per-pod-identity"
    NO_READY_SIGNAL = "no-ready-signal"
    WEBHOOK_UNREACHABLE = "webhook-unreachable"


class AgentReason(StrEnum):
    """Why a capture or restore did not succeed: codes of the agent's reports, explained in docs/reasons.md.

    The message beside a code says what happened this time.
    """

    # The checkpoint that a pod names
    CHECKPOINT_UNNAMED = "checkpoint-unnamed"
    CHECKPOINT_NOT_FOUND = "checkpoint-not-found"
    CHECKPOINT_NOT_READY = "checkpoint-not-ready"
    CHECKPOINT_CHANGED = "checkpoint-changed"
    DIGEST_UNKNOWN = "digest-unknown"
    # The pod or Job
    ID_INVALID = "id-invalid"
    TARGETS_INVALID = "targets-invalid"
    STORAGE_PATH = "storage-path"
    STORAGE_TYPE = "storage-type"
    WORKER_EXITED = "worker-exited"
    TEMPLATE_DIFFERS = "template-differs"
    OTHER_WORKLOAD = "other-workload"
    # Standby and its container
    STANDBY_NOT_UP = "standby-not-up"
    ALREADY_STARTED = "already-started"
    CLAIM_GONE = "claim-gone"
    CONTROL_BLOCKED = "control-blocked"
    CLAIM_TAKEN = "claim-taken"
    AGENT_DIED = "agent-died"
    NO_WORKER = "no-worker"
    NOT_UNDER_STANDBY = "not-under-standby"
    WORKER_NOT_STOPPED = "worker-not-stopped"
    TERMINAL = "terminal"
    # What criu cannot carry, or a restore elsewhere cannot find: seen before anything is frozen
    IO_URING = "io-uring"
    MESSAGE_QUEUE = "message-queue"
    PSEUDO_TERMINAL = "pseudo-terminal"
    UNSUPPORTED_DESCRIPTOR = "unsupported-descriptor"
    UNSUPPORTED_SOCKET = "unsupported-socket"
    UNSUPPORTED_MEMORY = "unsupported-memory"
    SYSV_IPC = "sysv-ipc"
    NESTED_NAMESPACES = "nested-namespaces"
    THREAD_APART = "thread-apart"
    UNSUPPORTED_SCHEDULING = "unsupported-scheduling"
    UNSUPPORTED_PROCESS = "unsupported-process"
    UNSUPPORTED_REGISTERS = "unsupported-registers"
    INOTIFY_OVERLAY = "inotify-overlay"
    INOTIFY_DELETED = "inotify-deleted"
    VOLUME_WRITTEN = "volume-written"
    MOUNTED_INSIDE = "mounted-inside"
    UNLINKED_TOO_LARGE = "unlinked-too-large"
    UNLINKED_FOLDER = "unlinked-folder"
    IMMUTABLE_FILE = "immutable-file"
    ADDRESS_BOUND = "address-bound"
    UNIX_PEER_OUTSIDE = "unix-peer-outside"
    CONFINEMENT_LOST = "confinement-lost"
    TRACED = "traced"
    # The container's image
    IMAGE_UNREADABLE = "image-unreadable"
    # The artifact and its store
    ARTIFACT_MISSING = "artifact-missing"
    ARTIFACT_UNREADABLE = "artifact-unreadable"
    ARTIFACT_CORRUPT = "artifact-corrupt"
    ARTIFACT_EXISTS = "artifact-exists"
    MANIFEST_UNREADABLE = "manifest-unreadable"
    MANIFEST_DIGEST = "manifest-digest"
    MANIFEST_FORMAT = "manifest-format"
    STORAGE_MISSING = "storage-missing"
    STORAGE_UNWRITABLE = "storage-unwritable"
    # What a restore needs of its container and node
    ARCHITECTURE_MISMATCH = "architecture-mismatch"
    CPU_MISMATCH = "cpu-mismatch"
    KERNEL_MISMATCH = "kernel-mismatch"
    CRIU_MISMATCH = "criu-mismatch"
    IMAGE_MISMATCH = "image-mismatch"
    CPU_LIMIT = "cpu-limit"
    HUGE_PAGES = "huge-pages"
    SYSV_IPC_TAKEN = "sysv-ipc-taken"
    BYPASS_INVALID = "bypass-invalid"
    WIDER_RIGHTS = "wider-rights"
    IMAGES_WIDER = "images-wider"
    MOUNTS_MISSING = "mounts-missing"
    PIDS_TAKEN = "pids-taken"
    VOLUME_TOO_LARGE = "volume-too-large"
    VOLUME_FILE_REPLACED = "volume-file-replaced"
    VOLUME_FILE_CHANGED = "volume-file-changed"
    WEIGHTS_CHANGED = "weights-changed"
    ROOTFS_TOO_LARGE = "rootfs-too-large"
    OVERLAY_UNSUPPORTED = "overlay-unsupported"
    ROOTFS_UNREADABLE = "rootfs-unreadable"
    # The work itself
    FILES_FAILED = "files-failed"
    TREE_MISSING = "tree-missing"
    DUMP_FAILED = "dump-failed"
    RESTORE_FAILED = "restore-failed"
    CRIU_MISSING = "criu-missing"
    CRIU_TOO_OLD = "criu-too-old"
    WORK_UNWRITABLE = "work-unwritable"
    # The device state
    GPU_MISSING = "gpu-missing"
    GPU_UNSUPPORTED = "gpu-unsupported"
    GPU_MEMORY = "gpu-memory"
    GPU_BUSY = "gpu-busy"
    GPU_FAILED = "gpu-failed"
    GPU_MISMATCH = "gpu-mismatch"
    GPU_DRIVER_DENIED = "gpu-driver-denied"
    MEMORY_LIMIT = "memory-limit"
    # The proof of an artifact, and its owner's own question
    PROOF_FAILED = "proof-failed"
    CANARY_FAILED = "canary-failed"
    # None of these
    INTERNAL_ERROR = "internal-error"


LASTING: Final = frozenset(
    {
        AgentReason.TERMINAL,
        AgentReason.IO_URING,
        AgentReason.MESSAGE_QUEUE,
        AgentReason.PSEUDO_TERMINAL,
        AgentReason.UNSUPPORTED_DESCRIPTOR,
        AgentReason.UNSUPPORTED_SOCKET,
        AgentReason.UNSUPPORTED_MEMORY,
        AgentReason.SYSV_IPC,
        AgentReason.NESTED_NAMESPACES,
        AgentReason.THREAD_APART,
        AgentReason.UNSUPPORTED_SCHEDULING,
        AgentReason.UNSUPPORTED_PROCESS,
        AgentReason.INOTIFY_OVERLAY,
        AgentReason.INOTIFY_DELETED,
        AgentReason.VOLUME_WRITTEN,
        AgentReason.MOUNTED_INSIDE,
        AgentReason.UNLINKED_TOO_LARGE,
        AgentReason.UNLINKED_FOLDER,
        AgentReason.IMMUTABLE_FILE,
        AgentReason.ADDRESS_BOUND,
        AgentReason.UNIX_PEER_OUTSIDE,
        AgentReason.CONFINEMENT_LOST,
        AgentReason.TRACED,
        AgentReason.VOLUME_TOO_LARGE,
        AgentReason.ROOTFS_TOO_LARGE,
        AgentReason.MEMORY_LIMIT,
    }
)
"""Why a capture fails that the next start of the same worker would meet again: it is not tried again by itself."""

PASSING: Final = frozenset(
    {
        AgentReason.ARTIFACT_MISSING,
        AgentReason.ARTIFACT_UNREADABLE,
        AgentReason.MANIFEST_UNREADABLE,
        AgentReason.STORAGE_MISSING,
        AgentReason.PIDS_TAKEN,
        AgentReason.FILES_FAILED,
        AgentReason.TREE_MISSING,
        AgentReason.RESTORE_FAILED,
        AgentReason.GPU_BUSY,
        AgentReason.GPU_FAILED,
        AgentReason.INTERNAL_ERROR,
    }
)
"""Why a restore fails that another try may not meet: storage that is slow to show a file, a pid that an exec probe had
for a moment, a device that another process leaves. Every other reason compares what stays as it is."""

NOT_OF_THE_CHECKPOINT: Final = frozenset(
    {
        AgentReason.CHECKPOINT_UNNAMED,
        AgentReason.CHECKPOINT_NOT_FOUND,
        AgentReason.CHECKPOINT_NOT_READY,
        AgentReason.CHECKPOINT_CHANGED,
        AgentReason.ID_INVALID,
        AgentReason.TARGETS_INVALID,
        AgentReason.STORAGE_PATH,
        AgentReason.STORAGE_TYPE,
        AgentReason.STANDBY_NOT_UP,
        AgentReason.ALREADY_STARTED,
        AgentReason.CLAIM_GONE,
        AgentReason.CLAIM_TAKEN,
        AgentReason.AGENT_DIED,
        AgentReason.CONTROL_BLOCKED,
        AgentReason.BYPASS_INVALID,
        AgentReason.ARCHITECTURE_MISMATCH,
        AgentReason.CPU_MISMATCH,
        AgentReason.KERNEL_MISMATCH,
        AgentReason.IMAGE_MISMATCH,
        AgentReason.CPU_LIMIT,
        AgentReason.HUGE_PAGES,
        AgentReason.SYSV_IPC_TAKEN,
        AgentReason.MEMORY_LIMIT,
        AgentReason.MOUNTS_MISSING,
        AgentReason.PIDS_TAKEN,
        AgentReason.WIDER_RIGHTS,
        AgentReason.GPU_MEMORY,
        AgentReason.CRIU_MISMATCH,
        AgentReason.CRIU_MISSING,
        AgentReason.CRIU_TOO_OLD,
        AgentReason.GPU_MISSING,
        AgentReason.GPU_MISMATCH,
        AgentReason.GPU_BUSY,
        AgentReason.GPU_DRIVER_DENIED,
    }
)
"""Why a restore fails of which pod, agent or node is the cause: elsewhere the checkpoint may well be restored."""
