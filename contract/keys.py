"""Every label, annotation, environment variable, resource name and path that two rooms share.

Keys of the upstream contract keep their upstream spelling, so manifests written for it work unchanged;
keys that only this project knows stand in sections of their own.
"""

from typing import Final

# --- API group -------------------------------------------------------------------------------------------------------
GROUP: Final = "nvidia.com"
VERSION: Final = "v1alpha1"
API_VERSION: Final = f"{GROUP}/{VERSION}"
CHECKPOINT_KIND: Final = "DynamoCheckpoint"
CHECKPOINT_PLURAL: Final = "dynamocheckpoints"
CHECKPOINT_SHORT_NAME: Final = "dckpt"
GRAPH_KIND: Final = "DynamoGraphDeployment"
GRAPH_PLURAL: Final = "dynamographdeployments"
GRAPH_SHORT_NAME: Final = "dgd"

# --- Labels, upstream ------------------------------------------------------------------------------------------------
LABEL_IS_SOURCE: Final = "nvidia.com/snapshot-is-checkpoint-source"
"""``"true"`` on the pods of a checkpoint Job."""
LABEL_IS_RESTORE_TARGET: Final = "nvidia.com/snapshot-is-restore-target"
"""``"true"`` on pods shaped for restore; descriptive, the agent selects by id present and source absent."""
LABEL_CHECKPOINT_ID: Final = "nvidia.com/snapshot-checkpoint-id"
"""The artifact id, on the DynamoCheckpoint, its Jobs, their pods and restore pods."""
LABEL_COMPONENT: Final = "nvidia.com/dynamo-component"
LABEL_NAMESPACE: Final = "nvidia.com/dynamo-namespace"
LABEL_SELECTOR: Final = "nvidia.com/selector"
GRAPH_LABELS: Final = (LABEL_COMPONENT, LABEL_NAMESPACE, LABEL_SELECTOR)
"""All three are non-empty on the worker pods of a graph deployment."""
LABEL_AGENT: Final = "app.kubernetes.io/component"
LABEL_AGENT_VALUE: Final = "snapshot-agent"
LABEL_JOB_NAME: Final = "batch.kubernetes.io/job-name"
LABEL_LEGACY_SOURCE: Final = "nvidia.com/checkpoint-source"
"""``"true"`` on checkpoint Jobs: the first seed's troubleshooting lists Jobs by it."""

# --- Labels, ours ----------------------------------------------------------------------------------------------------
LABEL_RESTORE: Final = "nvidia.com/snapshot-restore"
"""Opt-in of any workload: ``enabled`` (restore by name) or ``auto`` (checkpoint made from the workload itself)."""
RESTORE_BY_NAME: Final = "enabled"
RESTORE_AUTO: Final = "auto"
LABEL_NODE_READY: Final = "nvidia.com/snapshot-node"
"""``ready`` on a node whose agent has put its tools and seccomp profile in place."""
NODE_READY_VALUE: Final = "ready"

# --- Annotations, upstream -------------------------------------------------------------------------------------------
ANN_TARGET_CONTAINERS: Final = "nvidia.com/snapshot-target-containers"
ANN_ARTIFACT_VERSION: Final = "nvidia.com/snapshot-artifact-version"
ANN_CHECKPOINT_STATUS: Final = "nvidia.com/snapshot-checkpoint-status"
"""On the Job, written by the agent: ``completed`` or ``failed``."""
ANN_RESTORE_STATUS_PREFIX: Final = "nvidia.com/snapshot-restore-status."
"""Followed by a container name: ``in_progress``, ``completed`` or ``failed``."""
ANN_RESTORE_CONTAINER_ID_PREFIX: Final = "nvidia.com/snapshot-restore-container-id."
"""Followed by a container name: the container id the status speaks of, without the runtime's scheme."""
ANN_STORAGE_TYPE: Final = "nvidia.com/snapshot-storage-type"
ANN_STORAGE_BASE_PATH: Final = "nvidia.com/snapshot-storage-base-path"
ANN_RESTORE_CANDIDATE: Final = "nvidia.com/dynamo-checkpoint-restore-candidate"
ANN_CHECKPOINT_NAME: Final = "nvidia.com/dynamo-checkpoint-name"
ANN_STARTUP_POLICY: Final = "nvidia.com/dynamo-checkpoint-startup-policy"
ANN_AUTO_CHECKPOINT: Final = "nvidia.com/dynamo-auto-checkpoint"
ANN_DELETION_POLICY: Final = "nvidia.com/dynamo-checkpoint-deletion-policy"
ANN_RESTORE_FROM: Final = "nvidia.com/restore-from"
"""Newer upstream synonym of the checkpoint name annotation."""

# --- Annotations, ours -----------------------------------------------------------------------------------------------
ANN_ADMISSION: Final = "nvidia.com/snapshot-admission"
"""The admission decision's code, on every pod that opted in; the closed list is ``contract.states.Admission``."""
ANN_CHECKPOINT: Final = "nvidia.com/snapshot-checkpoint"
"""Name of the DynamoCheckpoint that a shaped pod or a capture Job belongs to."""
ANN_ORIGINAL_IMAGE_PREFIX: Final = "nvidia.com/snapshot-original-image."
ANN_IMAGE_POLICY: Final = "nvidia.com/snapshot-image-policy"
IMAGE_POLICY_CHECKPOINT: Final = "Checkpoint"
ANN_POLICY: Final = "nvidia.com/snapshot-policy"
POLICY_REQUIRE: Final = "Require"
ANN_TEMPLATE_HASH: Final = "nvidia.com/snapshot-template-hash"
"""On automatic pods, stamped by the webhook: what of the pod is in a process's memory; all else follows from it."""
ANN_IDENTITY: Final = "nvidia.com/snapshot-identity"
IDENTITY_REFRESHED: Final = "refreshed"
"""The worker renews its own identity (name, address) after a restore, so replicas may share one checkpoint."""
ANN_GATE: Final = "nvidia.com/snapshot-gate"
"""On a pod that was held, written when its gate is lifted: why, a ``contract.states.GateEnd``."""
ANN_WORKLOAD: Final = "nvidia.com/snapshot-workload"
"""On automatic checkpoints: ``<kind>/<name>`` of the workload that first asked for it."""
ANN_ADOPT: Final = "nvidia.com/snapshot-adopt"
"""On a DynamoCheckpoint: the version of an artifact that is in storage already and shall be taken over."""
ANN_IMAGE_CONFIG: Final = "nvidia.com/snapshot-image-config"
"""On the Job, written by the agent: JSON ``{entrypoint, cmd, user, workingDir}`` of the captured image."""
ANN_MANIFEST_DIGEST: Final = "nvidia.com/snapshot-manifest-digest"
"""On the Job, written by the agent: ``blake3:<64 hex>`` of the published manifest; trust anchor of the artifact."""
ANN_ARTIFACT_SIZE: Final = "nvidia.com/snapshot-artifact-size"
"""On the Job, written by the agent: bytes of the published artifact, decimal."""
ANN_CAPTURE_MESSAGE: Final = "nvidia.com/snapshot-capture-message"
"""On the Job, written by the agent: why the capture failed and what to do about it."""
ANN_CAPTURE_REPORT: Final = "nvidia.com/snapshot-capture-report"
"""On the Job: JSON of phase seconds and bytes."""
ANN_RESTORE_REPORT: Final = "nvidia.com/snapshot-restore-report"
"""On the restore pod: JSON ``{container, outcome, reason, seconds: {phase: s}, bytes}`` of the newest restore."""
ANN_NODE: Final = "nvidia.com/snapshot-node"
"""On the capture Job: the node whose agent writes to it."""
ANN_READY_SIGNAL: Final = "nvidia.com/snapshot-ready-signal"
"""On capture pods: ``File`` or ``Probe``, the moment that the agent waits for."""
ANN_SETTLE_SECONDS: Final = "nvidia.com/snapshot-settle-seconds"
"""On capture pods with ready signal ``Probe``: seconds that the target must have been ready."""

# --- Finalizer, gates ------------------------------------------------------------------------------------------------
FINALIZER: Final = "nvidia.com/finalizer"
READINESS_GATE_SOURCE: Final = "nvidia.com/snapshot-source"
"""Never set true, so that no Service, HPA or PDB ever counts a capture pod."""
SCHEDULING_GATE: Final = "nvidia.com/wait-for-checkpoint"

# --- Environment of the workload -------------------------------------------------------------------------------------
ENV_CONTROL_DIR: Final = "DYN_SNAPSHOT_CONTROL_DIR"
ENV_CONTROL_DIR_NEW: Final = "SNAPSHOT_CONTROL_DIR"
ENV_RESTORE_STANDBY: Final = "DYN_SNAPSHOT_RESTORE_STANDBY"
ENV_STANDBY_ID: Final = "DYN_SNAPSHOT_CHECKPOINT_ID"
ENV_STANDBY_POLICY: Final = "DYN_SNAPSHOT_POLICY"
ENV_STANDBY_RESTART_POLICY: Final = "DYN_SNAPSHOT_RESTART_POLICY"
ENV_CHECKPOINT_STORAGE_TYPE: Final = "DYN_CHECKPOINT_STORAGE_TYPE"
ENV_CHECKPOINT_LOCATION: Final = "DYN_CHECKPOINT_LOCATION"
ENV_CHECKPOINT_PATH: Final = "DYN_CHECKPOINT_PATH"
ENV_CHECKPOINT_HASH: Final = "DYN_CHECKPOINT_HASH"
ENV_CHECKPOINT_SIGNAL_FILE: Final = "DYN_CHECKPOINT_SIGNAL_FILE"

# --- Volumes and paths in the container ------------------------------------------------------------------------------
CONTROL_VOLUME: Final = "snapshot-control"
CONTROL_DIR: Final = "/snapshot-control"
STORAGE_VOLUME: Final = "checkpoint-storage"
SHARED_MEMORY_VOLUME: Final = "shared-memory"
SHARED_MEMORY_DIR: Final = "/dev/shm"  # noqa: S108 - the mount point itself, not a temporary file
SHARED_MEMORY_SIZE: Final = "8Gi"
TOOLS_DIR: Final = "/opt/dynamo-snapshot"
"""The tool folder: built into a placeholder image, or mounted when tools are injected."""
STANDBY: Final = f"{TOOLS_DIR}/bin/snapshot-standby"
TOOLS_VOLUME: Final = "snapshot-tools"
"""The volume, and the init container that fills it, where tools are injected into a stock image."""
DEFAULT_TARGET: Final = "main"
DEFAULT_BASE_PATH: Final = "/checkpoints"
SECCOMP_PROFILE: Final = "profiles/block-iouring.json"

# --- Bounds ----------------------------------------------------------------------------------------------------------
MAX_CONTAINER_NAME: Final = 33
"""An annotation's name part holds at most 63 characters, of which the longest per-container prefix takes 30."""
STARTUP_FAILURE_THRESHOLD: Final = 1800
DEFAULT_ARTIFACT_VERSION: Final = "1"
DEFAULT_ACTIVE_DEADLINE_SECONDS: Final = 3600
JOB_TTL_SECONDS: Final = 300
