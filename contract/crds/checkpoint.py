"""DynamoCheckpoint as models: the source of the CRD's schema, never used to carry an object.

``podTemplateSpec`` is typed only if a mistake would otherwise surface minutes later, and keeps what it does not
know: the full pod schema would prune fields of newer API servers silently.
A dry-run of the Job at reconcile judges the rest.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel
from pydantic.config import JsonDict

from contract.api import keys
from contract.api.checkpoint import DEFAULT_SETTLE_SECONDS
from contract.api.states import Phase, Proof, ReadySignal
from contract.config import patterns

MAX_CONTAINERS = 64
MAX_IMAGE = 1024
"""Registries take 255 characters of name and 128 of tag; the API server takes no rule about a text without a bound."""

PRESERVE: JsonDict = {"x-kubernetes-preserve-unknown-fields": True}


def rule(expression: str, message: str, **more: str) -> JsonDict:
    """Return a CEL rule of the schema."""
    written: JsonDict = {"rule": expression, "message": message}
    written.update(more)
    return written


def by_key(*names: str) -> JsonDict:
    """Return a list whose items are identified by these fields."""
    return {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": list(names)}


LIST_SET: JsonDict = {"x-kubernetes-list-type": "set"}
LIST_ATOMIC: JsonDict = {"x-kubernetes-list-type": "atomic"}
ContainerName = Annotated[str, Field(min_length=1, max_length=63, pattern=patterns.LABEL)]
Free = Annotated[dict[str, Any], Field(json_schema_extra=PRESERVE)]
Time = Annotated[str, Field(json_schema_extra={"format": "date-time"})]
Whole64 = Annotated[int, Field(ge=0, json_schema_extra={"format": "int64"})]
Positive32 = Annotated[int, Field(ge=1, json_schema_extra={"format": "int32"})]
Natural32 = Annotated[int, Field(ge=0, json_schema_extra={"format": "int32"})]
Size = Annotated[
    str, Field(json_schema_extra={"x-kubernetes-int-or-string": True, "type": None, "pattern": patterns.BYTES})
]


class Part(BaseModel):
    """A part of the object."""

    model_config = ConfigDict(alias_generator=to_camel, use_attribute_docstrings=True)


class Open(Part):
    """A part that keeps fields it does not know."""

    model_config = ConfigDict(json_schema_extra=PRESERVE)


class Identity(Part):
    """What the checkpoint is a checkpoint of; its hash is the id of checkpoints written by hand."""

    model: Annotated[str, Field(min_length=1)]
    """Model name or path."""
    backend_framework: Literal["vllm", "sglang", "trtllm", "generic"]
    """Inference framework; generic for any other process."""
    dynamo_version: str | None = None
    tensor_parallel_size: Positive32 = 1
    pipeline_parallel_size: Positive32 = 1
    dtype: str | None = None
    max_model_len: Positive32 | None = None
    extra_parameters: dict[str, str] | None = None
    """Further key-value pairs that change the running state."""


class GpuMemoryService(Part):
    """GPU memory service of the worker; not supported together with checkpoints."""

    enabled: bool = False
    mode: Literal["intraPod", "interPod"] = "intraPod"
    device_class_name: str = "gpu.nvidia.com"
    extra_client_containers: Annotated[list[str], Field(json_schema_extra=LIST_SET)] | None = None
    extra_client_pods: Annotated[list[Free], Field(json_schema_extra=LIST_ATOMIC)] | None = None


class EnvVar(Open):
    """An environment variable."""

    name: Annotated[str, Field(min_length=1)]
    value: str | None = None


class VolumeMount(Open):
    """A mount of a pod volume."""

    name: Annotated[str, Field(min_length=1)]
    mount_path: Annotated[str, Field(min_length=1)]


class Container(Open):
    """A container; all fields of the pod API are kept."""

    name: ContainerName
    image: Annotated[str, Field(min_length=1, max_length=MAX_IMAGE, pattern=patterns.IMAGE)] | None = None
    command: Annotated[list[str], Field(json_schema_extra=LIST_ATOMIC)] | None = None
    args: Annotated[list[str], Field(json_schema_extra=LIST_ATOMIC)] | None = None
    working_dir: str | None = None
    env: Annotated[list[EnvVar], Field(json_schema_extra=LIST_ATOMIC)] | None = None
    volume_mounts: Annotated[list[VolumeMount], Field(json_schema_extra=LIST_ATOMIC)] | None = None
    resources: Free | None = None


class Volume(Open):
    """A pod volume."""

    name: Annotated[str, Field(min_length=1, max_length=63)]


class PodSpec(Open):
    """A pod spec; all fields of the pod API are kept."""

    containers: Annotated[
        list[Container], Field(min_length=1, max_length=MAX_CONTAINERS, json_schema_extra=by_key("name"))
    ]
    init_containers: (
        Annotated[list[Container], Field(max_length=MAX_CONTAINERS, json_schema_extra=by_key("name"))] | None
    ) = None
    volumes: Annotated[list[Volume], Field(json_schema_extra=by_key("name"))] | None = None


class TemplateMetadata(Open):
    """Labels and annotations of the capture pod."""

    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None


class PodTemplateSpec(Open):
    """The worker to capture; mirrors the worker's own pod template."""

    metadata: TemplateMetadata | None = None
    spec: PodSpec


class SharedMemory(Part):
    """Memory-backed volume at /dev/shm of the target."""

    disabled: bool = False
    size: Size = keys.SHARED_MEMORY_SIZE


class Job(Part):
    """The capture Job: always one attempt."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                rule(
                    "self.podTemplateSpec.spec.containers.exists(c, c.name == self.targetContainerName)",
                    "must name a container of podTemplateSpec; left out, it is main",
                    fieldPath=".targetContainerName",
                )
            ]
        }
    )

    pod_template_spec: PodTemplateSpec
    target_container_name: ContainerName = keys.DEFAULT_TARGET
    """The container that is captured."""
    ready_signal: ReadySignal | None = None
    """The moment of capture: File, the worker writes ready-for-snapshot, or Probe, its own probes pass.
    Default: File for checkpoints written by hand."""
    settle_seconds: Natural32 = DEFAULT_SETTLE_SECONDS
    """With readySignal Probe: how long the target must have been ready."""
    shared_memory: SharedMemory | None = None
    active_deadline_seconds: Annotated[int, Field(ge=1, json_schema_extra={"format": "int64"})] = (
        keys.DEFAULT_ACTIVE_DEADLINE_SECONDS
    )
    backoff_limit: Natural32 | None = None
    """Deprecated and ignored: capture Jobs are single-attempt."""
    ttl_seconds_after_finished: Natural32 | None = None
    """Deprecated and ignored: 300 always."""


class Retention(Part):
    """How long artifacts are kept; what is absent here is as the installation's values say."""

    keep_versions: Positive32 | None = None
    """Versions kept in storage, the newest first; a version that a pod uses is always kept."""
    ttl_after_last_use: Annotated[str, Field(pattern=patterns.DURATION, min_length=2)] | None = None
    """The checkpoint is deleted, with its artifacts, when no pod has used it for so long, for example 72h."""


class Source(Part):
    """A running pod that is captured and goes on, instead of one that a Job starts; spec.job says what it runs.

    The pod must name the checkpoint in annotation nvidia.com/snapshot-capture: who asks for this may change the pod.
    """

    pod_name: Annotated[str, Field(min_length=1, max_length=253)]
    pod_uid: str = Field(min_length=1, max_length=63, alias="podUID")


class Spec(Part):
    """What to capture."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                rule(
                    "has(self.job)",
                    "a pod template to capture is needed",
                    fieldPath=".job",
                    reason="FieldValueRequired",
                ),
            ]
        }
    )

    identity: Annotated[
        Identity,
        Field(
            json_schema_extra={
                "x-kubernetes-validations": [
                    rule("self == oldSelf", "spec.identity is immutable after creation", reason="FieldValueForbidden")
                ]
            }
        ),
    ]
    gpu_memory_service: GpuMemoryService | None = None
    job: Job | None = None
    source: Source | None = None
    retention: Retention | None = None
    parked: Natural32 | None = None
    """Restored pods of each workload that stay parked: without device memory, and stopped, until one is needed."""


class Condition(Part):
    """One aspect of the state, in the usual form."""

    type: Annotated[str, Field(min_length=1, max_length=316)]
    status: Literal["True", "False", "Unknown"]
    reason: Annotated[str, Field(min_length=1, max_length=1024)]
    message: Annotated[str, Field(max_length=32768)]
    last_transition_time: Time
    observed_generation: Whole64 | None = None


class CapturedImage(Open):
    """The captured image as the runtime had it."""

    reference: str | None = None
    entrypoint: Annotated[list[str], Field(json_schema_extra=LIST_ATOMIC)] | None = None
    cmd: Annotated[list[str], Field(json_schema_extra=LIST_ATOMIC)] | None = None
    user: str | None = None
    working_dir: str | None = None
    architecture: str | None = None
    """That of the node where it was captured, as ``kubernetes.io/arch`` has it; no other can restore it."""
    injected: bool | None = None
    """Whether the tools were brought into it; restored pods get them then, and only then, whatever the values say."""


class TakenOn(Open):
    """What a checkpoint was taken on; restores compare it with their node and pod."""

    node: str | None = None
    architecture: str | None = None
    kernel: str | None = None
    criu: str | None = None
    cpu_model: str | None = None
    cpu_flags: str | None = None
    """Instruction sets, as /proc/cpuinfo names them."""
    gpu_models: Annotated[list[str], Field(json_schema_extra=LIST_ATOMIC)] | None = None
    """One for each GPU of the worker."""
    gpu_driver: str | None = None
    image_digest: str | None = None


class ArtifactVersion(Part):
    """One artifact in storage."""

    version: Annotated[str, Field(min_length=1, max_length=63)]
    manifest_digest: str
    """blake3 of the manifest of this version."""
    size: Whole64 | None = None
    created_at: Time | None = None
    image: CapturedImage | None = None
    """The image that this version was captured of: the template may name another by now."""


class Status(Part):
    """What became of it; written by the controller only."""

    phase: Phase | None = None
    """How far it is; only Ready can be restored."""
    checkpoint_id: str | None = Field(default=None, alias="checkpointID")
    """Id of the artifact; the name of its directory."""
    identity_hash: str | None = None
    """Deprecated alias of checkpointID."""
    job_name: str | None = None
    created_at: Time | None = None
    """When the checkpoint became Ready."""
    message: str | None = None
    """Progress, or what is wrong and what to do."""
    location: str | None = None
    """Path of the artifact on the checkpoint volume."""
    storage_type: str | None = None
    storage_claim: str | None = None
    """PersistentVolumeClaim that holds the artifact, <namespace>/<name>."""
    size: Whole64 | None = None
    """Bytes of the artifact."""
    manifest_digest: str | None = None
    """blake3 of the manifest; nothing else is ever restored."""
    proof: Proof | None = None
    """Restored: it was restored once where it was captured; Read: its checksums were compared."""
    image: CapturedImage | None = None
    source: TakenOn | None = None
    versions: Annotated[list[ArtifactVersion], Field(json_schema_extra=by_key("version"))] | None = None
    """Artifacts in storage, the newest last; a pod that was shaped for an older one restores that one."""
    attempts: Natural32 | None = None
    """Captures started for the wanted version of an automatic checkpoint."""
    last_used_at: Time | None = None
    """When a pod last used the checkpoint; written at most once an hour."""
    observed_generation: Whole64 | None = None
    conditions: Annotated[list[Condition], Field(json_schema_extra=by_key("type"))] | None = None


class DynamoCheckpoint(Part):
    """A checkpoint of a worker: captured once, restored by every pod that names it."""

    api_version: str | None = None
    kind: str | None = None
    metadata: Annotated[dict[str, Any], Field(json_schema_extra={})] | None = None
    spec: Spec
    status: Status | None = None
