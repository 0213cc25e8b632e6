"""DynamoGraphDeployment as models: the source of its CRD's schema, never used to carry an object.

Only what our reconciler reads is typed; whatever else the platform's own manifests say is kept and not looked at.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import ConfigDict, Field

from contract.api import keys
from contract.api.states import DeletionPolicy, GraphCondition, GraphState, StartupPolicy
from contract.crds.checkpoint import (
    LIST_ATOMIC,
    PRESERVE,
    Condition,
    ContainerName,
    EnvVar,
    Free,
    Natural32,
    Open,
    Part,
    Time,
    Whole64,
    by_key,
    rule,
)
from contract.crds.generate import column, definition, structural_schema

Json = dict[str, Any]

FILE_NAME: Final = f"{keys.GROUP}_{keys.GRAPH_PLURAL}.yaml"
MAX_SERVICES: Final = 64
MAX_SERVICE_NAME: Final = 63
_READY: Final = f'.status.conditions[?(@.type=="{GraphCondition.READY}")]'
_COLUMNS: Final = (
    ("State", "string", ".status.state", 0),
    ("Ready", "string", f"{_READY}.status", 0),
    ("Reason", "string", f"{_READY}.reason", 1),
    ("Message", "string", f"{_READY}.message", 1),
    ("Age", "date", ".metadata.creationTimestamp", 0),
)
_NAMES: Final = rule(
    f"self.all(name, size(name) <= {MAX_SERVICE_NAME} && name.matches('^[A-Za-z0-9]([-A-Za-z0-9]*[A-Za-z0-9])?$'))",
    f"names of services are letters, digits and hyphens, at most {MAX_SERVICE_NAME}",
)


class CheckpointJob(Open):
    """What the capture's pod has besides the service's own template."""

    pod_template: Free | None = None
    """Merged over the template that is captured."""


class Checkpoint(Open):
    """How the workers of a service start from a checkpoint."""

    model_config = ConfigDict(
        json_schema_extra={
            **PRESERVE,
            "x-kubernetes-validations": [
                rule(
                    "!has(self.job) || !has(self.checkpointRef) || self.checkpointRef == ''",
                    "cannot be set together with checkpointRef, which never creates a checkpoint",
                    fieldPath=".job",
                    reason="FieldValueForbidden",
                )
            ],
        }
    )

    enabled: bool = False
    mode: Literal["Auto", "auto", "Manual", "manual"] | None = None
    """Deprecated and ignored: a service without checkpointRef gets a checkpoint of its own."""
    startup_policy: StartupPolicy | None = None
    """What new workers do while the checkpoint is being made. Default: the installation's."""
    deletion_policy: DeletionPolicy | None = None
    """What becomes of the checkpoint when the graph is deleted. Default: Delete."""
    checkpoint_ref: Annotated[str, Field(max_length=253)] | None = None
    """A DynamoCheckpoint of the same namespace, by name, checkpoint id or identity hash."""
    identity: Free | None = None
    """Deprecated and ignored: checkpoints of graphs are scoped to one generation of one service."""
    target_container_name: ContainerName | None = None
    """The container that is captured and restored. Default: main."""
    job: CheckpointJob | None = None


class ExtraPodSpec(Open):
    """Fields of the pod spec; mainContainer is the worker's own container."""

    main_container: Free | None = None


class Multinode(Open):
    """Pods that work together as one replica."""

    node_count: Natural32 | None = None
    """More than 1 is not served."""


class GpuMemoryService(Open):
    """The platform's sharing of GPU memory; not together with a checkpoint."""

    enabled: bool = False


class Service(Open):
    """One component of the graph: one Deployment."""

    component_type: Annotated[str, Field(max_length=63)] | None = None
    """frontend, worker, prefill, decode and others; a service with a checkpoint and no type is a worker."""
    replicas: Natural32 | None = None
    """Absent: another controller's business, for example an autoscaler's; 1 at first."""
    envs: Annotated[list[EnvVar], Field(json_schema_extra=LIST_ATOMIC)] | None = None
    resources: Free | None = None
    """requests and limits; gpu means nvidia.com/gpu."""
    checkpoint: Checkpoint | None = None
    extra_pod_spec: ExtraPodSpec | None = None
    extra_pod_metadata: Free | None = None
    """Labels and annotations of the pods."""
    multinode: Multinode | None = None
    gpu_memory_service: GpuMemoryService | None = None
    shared_memory: Free | None = None
    """size of /dev/shm, or disabled."""
    volume_mounts: Annotated[list[Free], Field(json_schema_extra=LIST_ATOMIC)] | None = None
    """Claims by name, and where each is mounted (mountPoint)."""
    dynamo_namespace: str | None = None
    env_from_secret: str | None = None
    """A Secret whose keys become environment."""


ServiceMap = Annotated[
    dict[str, Service],
    Field(min_length=1, json_schema_extra={"maxProperties": MAX_SERVICES, "x-kubernetes-validations": [_NAMES]}),
]


class Spec(Open):
    """The graph."""

    services: ServiceMap
    envs: Annotated[list[EnvVar], Field(json_schema_extra=LIST_ATOMIC)] | None = None
    """Environment of all services."""
    backend_framework: str | None = None


class CheckpointStatus(Part):
    """The checkpoint that new workers of a service start from."""

    checkpoint_name: str | None = None
    checkpoint_id: str | None = Field(default=None, alias="checkpointID")
    identity_hash: str | None = None
    """Deprecated alias of checkpointID."""
    ready: bool
    """Whether new workers are restored from it."""
    phase: str | None = None
    """Phase of the DynamoCheckpoint; absent while there is none."""
    waiting_since: Time | None = None
    """Since when workers have waited for it (WaitForCheckpoint); after the chart value waitTimeout they start cold."""


class ServiceStatus(Part):
    """How far a service's Deployment is."""

    component_kind: str
    component_name: str
    replicas: Natural32
    """Wanted now; zero while the workers wait for their checkpoint."""
    updated_replicas: Natural32 | None = None
    ready_replicas: Natural32 | None = None
    available_replicas: Natural32 | None = None


class Status(Part):
    """What became of it; written by the controller only."""

    state: GraphState | None = None
    """pending until every service has the pods it wants."""
    checkpoints: dict[str, CheckpointStatus] | None = None
    """By service."""
    services: dict[str, ServiceStatus] | None = None
    """By service."""
    observed_generation: Whole64 | None = None
    conditions: Annotated[list[Condition], Field(json_schema_extra=by_key("type"))] | None = None


class DynamoGraphDeployment(Part):
    """Services of an inference graph, whose workers may start from checkpoints."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                rule(
                    f"size(self.metadata.name) <= {MAX_SERVICE_NAME}",
                    f"metadata.name is a label of what is made for it, so it may have {MAX_SERVICE_NAME} characters",
                )
            ]
        }
    )

    api_version: str | None = None
    kind: str | None = None
    metadata: Annotated[dict[str, Any], Field(json_schema_extra={})] | None = None
    spec: Spec
    status: Status | None = None


def graph_crd() -> Json:
    """Return the CRD of DynamoGraphDeployment; it outlives the release, as the graphs do."""
    version = {
        "additionalPrinterColumns": [column(*each) for each in _COLUMNS],
        "schema": {"openAPIV3Schema": structural_schema(DynamoGraphDeployment)},
    }
    made = definition(keys.GRAPH_KIND, keys.GRAPH_PLURAL, keys.GRAPH_SHORT_NAME, version)
    made["metadata"]["annotations"] = {"helm.sh/resource-policy": "keep"}
    return made
