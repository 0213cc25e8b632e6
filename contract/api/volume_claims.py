"""The volume claim that shaped pods mount with podMount: its form, and how it stands as far as they need it to start.

A pod that mounts a claim that is not there never starts: no scheduler takes it.  So whoever shapes a pod, or lets a
held one go, asks here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from contract.api.conditions import condition
from contract.api.states import ConditionType

if TYPE_CHECKING:
    from contract.config.storage import Storage

Json = Mapping[str, Any]
_REASONS: Final = "VolumeClaim"
"""What the controller's reasons for a claim begin with."""


class ClaimState(StrEnum):
    """How the claim of one namespace stands."""

    UNKNOWN = "unknown"
    """Nobody could look."""
    THERE = "there"
    MISSING = "missing"
    DELETING = "deleting"
    """The scheduler takes no new pod for it."""
    LOST = "lost"
    """Its volume is gone."""

    @property
    def in_the_way(self) -> bool:
        """Whether a pod that mounts it cannot start."""
        return self in _WORDS


Claims = Callable[[str], ClaimState]
"""From a namespace to its claim of the name that the chart's values give."""

_WORDS: Final = {
    ClaimState.MISSING: "does not exist; make it, with the volume of its predecessor where there was one",
    ClaimState.DELETING: "is being deleted; once it is gone, make it anew with its volume",
    ClaimState.LOST: "lost its volume; delete it and make it anew",
}


def unknown(_namespace: str) -> ClaimState:
    """What is known where nobody looks."""
    return ClaimState.UNKNOWN


def claim_state(claim: Json | None) -> ClaimState:
    """How a claim stands; None where there is none.

    One without a volume yet counts as there: with a storage class that waits for its first pod, that pod is ours.
    """
    if claim is None:
        return ClaimState.MISSING
    if claim["metadata"].get("deletionTimestamp"):
        return ClaimState.DELETING
    return ClaimState.LOST if (claim.get("status") or {}).get("phase") == "Lost" else ClaimState.THERE


def claim_problem(state: ClaimState, where: str) -> str:
    """What is wrong with the claim ``<namespace>/<name>`` and what to do; empty where nothing is known to be wrong."""
    return f"PersistentVolumeClaim {where} {_WORDS[state]}" if state.in_the_way else ""


def said_of_claim(checkpoint: Json | None) -> str:
    """The controller's words where a checkpoint has no usable claim; they come a moment after the fact."""
    entry = condition(checkpoint or {}, ConditionType.STORAGE_READY) or {}
    about = entry.get("status") == "False" and str(entry.get("reason") or "").startswith(_REASONS)
    return str(entry.get("message") or "there is no volume claim") if about else ""


def shape_claim(namespace: str, storage: Storage) -> dict[str, Any]:
    """The PersistentVolumeClaim that *storage* describes; nothing owns it, because artifacts outlive checkpoints."""
    spec: dict[str, Any] = {
        "accessModes": [storage.pvc_access_mode],
        "volumeMode": "Filesystem",
        "resources": {"requests": {"storage": storage.size}},
    }
    if storage.storage_class:
        spec["storageClassName"] = storage.storage_class
    labels = {
        "app.kubernetes.io/name": "dynamo",
        "app.kubernetes.io/component": "checkpoint-storage",
        "app.kubernetes.io/managed-by": "dynamo-operator",
    }
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": storage.pvc_name, "namespace": namespace, "labels": labels},
        "spec": spec,
    }
