"""Reading a graph: its services, and what each of them wants of checkpoints.

Manifests of several generations of the platform are in use; here they become one form.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from contract.api import keys
from contract.api.states import DeletionPolicy, StartupPolicy

Json = dict[str, Any]

WORKER: Final = "worker"
FRONTEND: Final = "frontend"
WORKER_TYPES: Final = frozenset({WORKER, "prefill", "decode"})
MAX_NAME: Final = 63
"""The Deployment's name is the value of a label too."""
_SUFFIX: Final = 9


@dataclass(frozen=True, slots=True)
class CheckpointPolicy:
    """What a service wants of checkpoints."""

    reference: str
    """Name or id of a checkpoint that exists; empty: one of the service's own."""
    startup: StartupPolicy
    deletion: DeletionPolicy
    target: str
    pod_template: Json = field(hash=False)
    """Merged over the template that is captured."""
    backend: str = ""
    """The framework as the ignored identity has it; empty if it does not say."""


@dataclass(frozen=True, slots=True)
class Service:
    """One service of a graph."""

    name: str
    kind: str
    """worker, prefill, decode, frontend, or any other word; empty if nothing is said."""
    deployment: str
    """Name of its Deployment."""
    replicas: int | None
    """None: another controller's business."""
    body: Json = field(hash=False)
    policy: CheckpointPolicy | None
    gpu_memory_service: bool
    nodes: int
    """Nodes that one replica spans; 0: unreadable."""

    @property
    def is_worker(self) -> bool:
        """Whether it holds a model, so that its template decides about the graph's generation."""
        return self.kind in WORKER_TYPES

    @property
    def switched_off(self) -> bool:
        """Whether it has a checkpoint block that is not enabled."""
        return self.policy is None and self.body.get("checkpoint") is not None


def services_of(graph: Mapping[str, Any], startup: StartupPolicy) -> tuple[Service, ...]:
    """Return the services in order of their names.

    Args:
        graph: the DynamoGraphDeployment.
        startup: what new workers do if the service does not say.
    """
    graph_name = str(graph["metadata"]["name"])
    services = (graph.get("spec") or {}).get("services") or {}
    return tuple(_service(graph_name, name, services[name] or {}, startup) for name in sorted(services))


def references_of(graph: Mapping[str, Any]) -> frozenset[str]:
    """Names and ids of the checkpoints that the graph refers to; of a malformed graph those that can be read.

    The informer indexes graphs by them, so this never fails: one graph must not end the work on all others.
    """
    services = _block(_block(graph, "spec"), "services")
    blocks = (_block(body, "checkpoint") for body in services.values())
    return frozenset(filter(None, (_reference(block) for block in blocks if block.get("enabled"))))


def deployment_name(graph: str, service: str) -> str:
    """Return ``<graph>-<service>`` in lower case; if that is too long for a label, cut and distinguished by a hash."""
    name = f"{graph}-{service.lower()}"
    if len(name) <= MAX_NAME:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[: _SUFFIX - 1]
    return f"{name[: MAX_NAME - _SUFFIX].rstrip('-.')}-{digest}"


def _service(graph: str, name: str, body: Json, startup: StartupPolicy) -> Service:
    block = body.get("checkpoint") or {}
    kind = str(body.get("componentType") or "").lower()
    return Service(
        name=name,
        # Older manifests have no types: what is worth a checkpoint is a worker.
        kind=kind or (WORKER if body.get("checkpoint") is not None else ""),
        deployment=deployment_name(graph, name),
        replicas=body.get("replicas"),
        body=body,
        policy=_policy(block, startup) if block.get("enabled") else None,
        gpu_memory_service=bool(_block(body, "gpuMemoryService").get("enabled")),
        nodes=_nodes(body),
    )


def _block(within: Any, name: str) -> Json:  # noqa: ANN401 - any JSON value
    """Return a block of a manifest; the API server checks but a few of them, so what is none counts as absent."""
    found = within.get(name) if isinstance(within, Mapping) else None
    return found if isinstance(found, dict) else {}


def _nodes(body: Json) -> int:
    said = _block(body, "multinode").get("nodeCount") or 1
    return said if isinstance(said, int) and not isinstance(said, bool) else 0


def _reference(block: Json) -> str:
    return str(block.get("checkpointRef") or "").strip()


def _policy(block: Json, startup: StartupPolicy) -> CheckpointPolicy:
    said = _block(block, "identity")
    return CheckpointPolicy(
        reference=_reference(block),
        startup=StartupPolicy(block.get("startupPolicy") or startup),
        deletion=DeletionPolicy(block.get("deletionPolicy") or DeletionPolicy.DELETE),
        target=str(block.get("targetContainerName") or keys.DEFAULT_TARGET),
        pod_template=_block(_block(block, "job"), "podTemplate"),
        backend=str(said.get("backendFramework") or said.get("framework") or ""),
    )
