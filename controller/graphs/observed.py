"""What there is to know about one graph, at one moment."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from contract.api import keys
from contract.api.checkpoint import controller_of, uses_gpu_memory_service
from contract.api.states import GraphReason, Phase
from kube.api import Object


class Standing(StrEnum):
    """The state of a service's checkpoint."""

    NONE = "none"
    """The service has no use of one, or cannot have one."""
    WAITING = "waiting"
    READY = "ready"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with a service, and what to do."""

    reason: GraphReason
    message: str
    fatal: bool = False
    """The service has no Deployment because of it."""


@dataclass(frozen=True, kw_only=True)
class Observed:
    """One graph and everything that belongs to it."""

    graph: Object
    deployments: Mapping[str, Object]
    """By name: those that are ours."""
    taken: Mapping[str, str]
    """Deployments of other owners by name, and whose they are."""
    checkpoint: Callable[[str], Object | None]
    """Finds a DynamoCheckpoint of the namespace by name, in memory."""
    referred: Mapping[str, str]
    """References of services, and the names of the checkpoints found by them."""
    labelled: tuple[Object, ...]
    """Automatic checkpoints that carry the graph's name."""
    refusals: Mapping[str, str] = field(default_factory=dict)
    """Objects (``Kind/name``) that the server did not take in this pass, and its words."""


def standing_of(checkpoint: Mapping[str, Any] | None) -> Standing:
    """Return what new pods may expect of a checkpoint."""
    if checkpoint is None or checkpoint["metadata"].get("deletionTimestamp"):
        return Standing.WAITING
    phase = (checkpoint.get("status") or {}).get("phase")
    if phase == Phase.FAILED or uses_gpu_memory_service(checkpoint):
        return Standing.FAILED
    return Standing.READY if phase == Phase.READY else Standing.WAITING


def is_ours(deployment: Mapping[str, Any], graph_name: str, uid: str) -> bool:
    """Say whether a Deployment is the graph's: owned by it, or left behind by a graph of that name."""
    owner = controller_of(deployment)
    if owner is not None:
        return bool(owner.get("uid") == uid)
    labels = deployment["metadata"].get("labels") or {}
    return bool(
        labels.get(keys.LABEL_MANAGED_BY) == keys.MANAGED_BY_VALUE and labels.get(keys.LABEL_GRAPH) == graph_name
    )
