"""The volume claim that shaped pods mount with podMount: its form, and its state as far as they need it to start.

A pod that mounts a claim that is not there never starts: no scheduler takes it. So this is asked before
a pod is shaped, and before a held one is released.
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
    """The state of the claim of one namespace."""

    UNKNOWN = "unknown"
    """It could not be looked at."""
    THERE = "there"
    MISSING = "missing"
    DELETING = "deleting"
    """The scheduler takes no new pod for it."""
    LOST = "lost"
    """Its volume no longer exists."""

    @property
    def in_the_way(self) -> bool:
        """Whether a pod that mounts it cannot start."""
        return self in _WORDS


Claims = Callable[[str], ClaimState]
"""From a namespace to its claim of the name that the chart's values give."""

_WORDS: Final = {
    ClaimState.MISSING: "does not exist; make it, with the volume of its predecessor if there was one",
    ClaimState.DELETING: "is being deleted; once it no longer exists, make it again with its volume",
    ClaimState.LOST: "lost its volume; delete it and make it again",
}


def unknown(_namespace: str) -> ClaimState:
    """Return what is known without looking."""
    return ClaimState.UNKNOWN


def claim_state(claim: Json | None) -> ClaimState:
    """Return the state of a claim; *claim* is None if there is none.

    One without a volume yet counts as there: with a storage class that waits for its first pod, that pod is ours.
    """
    if claim is None:
        return ClaimState.MISSING
    if claim["metadata"].get("deletionTimestamp"):
        return ClaimState.DELETING
    return ClaimState.LOST if (claim.get("status") or {}).get("phase") == "Lost" else ClaimState.THERE


def claim_problem(state: ClaimState, where: str) -> str:
    """Say what is wrong with the claim ``<namespace>/<name>`` and what to do; empty if nothing is known to be wrong."""
    return f"PersistentVolumeClaim {where} {_WORDS[state]}" if state.in_the_way else ""


def said_of_claim(checkpoint: Json | None) -> str:
    """Return the controller's words if a checkpoint has no usable claim; they come a moment after the fact."""
    entry = condition(checkpoint or {}, ConditionType.STORAGE_READY) or {}
    about = entry.get("status") == "False" and str(entry.get("reason") or "").startswith(_REASONS)
    return str(entry.get("message") or "there is no volume claim") if about else ""


def shape_claim(namespace: str, storage: Storage) -> dict[str, Any]:
    """Build the PersistentVolumeClaim that *storage* describes, without an owner: artifacts outlive checkpoints."""
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
