"""Why a capture or restore did not succeed: codes of reports, a closed list that alerts may match.

``docs/reasons.md`` explains each. The message beside a code says what happened this time.
"""

from enum import StrEnum


class Reason(StrEnum):
    """A kebab-case code; both halves of the agent use this list."""

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
    # Standby and its container
    STANDBY_NOT_UP = "standby-not-up"
    ALREADY_STARTED = "already-started"
    CLAIM_GONE = "claim-gone"
    CLAIM_TAKEN = "claim-taken"
    AGENT_DIED = "agent-died"
    NO_WORKER = "no-worker"
    TERMINAL = "terminal"
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
    CPU_MISMATCH = "cpu-mismatch"
    CRIU_MISMATCH = "criu-mismatch"
    WIDER_RIGHTS = "wider-rights"
    MOUNTS_MISSING = "mounts-missing"
    PIDS_TAKEN = "pids-taken"
    VOLUME_TOO_LARGE = "volume-too-large"
    OVERLAY_UNSUPPORTED = "overlay-unsupported"
    ROOTFS_UNREADABLE = "rootfs-unreadable"
    # The work itself
    FILES_FAILED = "files-failed"
    TREE_MISSING = "tree-missing"
    DUMP_FAILED = "dump-failed"
    RESTORE_FAILED = "restore-failed"
    CRIU_MISSING = "criu-missing"
    CRIU_TOO_OLD = "criu-too-old"
    INTERNAL_ERROR = "internal-error"
