"""Parked workers: restored but for their devices, and stopped until they are woken.

Pure, from the pod as it is. What says that a container parks is its command, which no update of a pod can change; the
annotation that wakes it grants nothing but that.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final, NamedTuple

from contract.api import keys
from contract.api.checkpoint import annotations_of, find_container
from contract.api.states import RestoreStatus
from contract.pods.common import ending, runs_standby

Json = dict[str, Any]

WHOLE_GPU: Final = "nvidia.com/gpu"
"""The device plugin's name of a GPU that one pod has; of its time slices too, unless they are renamed."""
SHARING_LABEL: Final = "nvidia.com/gpu.sharing-strategy"
"""On nodes, written by NVIDIA's GPU feature discovery."""
_DIGITS: Final = 6
SHARING: Final = ("time-slicing", "mps")


class Unwakeable(StrEnum):
    """Why a pod cannot be woken, a closed list; docs/parked.md explains each."""

    NOT_PARKED = "not-parked"
    ENDING = "ending"
    ALREADY_WOKEN = "already-woken"
    ALREADY_STARTED = "already-started"


class Refusal(NamedTuple):
    """Why, for programs and for people."""

    code: Unwakeable
    message: str


def parked_wanted(checkpoint: Mapping[str, Any]) -> int:
    """Return how many restored pods of each workload stay parked, by ``spec.parked``."""
    found = (checkpoint.get("spec") or {}).get("parked")
    return found if isinstance(found, int) and found > 0 else 0


def parked_said(template: Mapping[str, Any]) -> int:
    """Return the same, as an annotation of an automatic pod's template says it; 0 for what is no number."""
    text = annotations_of(template).get(keys.ANN_PARKED, "")
    return int(text) if text.isascii() and text.isdigit() and len(text) <= _DIGITS else 0


def parks(pod: Mapping[str, Any], container: str) -> bool:
    """Say whether a container's worker is parked once it is restored."""
    found = find_container(pod.get("spec") or {}, container) or {}
    return runs_standby(found, keys.STANDBY_PARK)


def parking_containers(pod: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of the containers whose workers are parked once they are restored."""
    names = (str(each.get("name")) for each in (pod.get("spec") or {}).get("containers") or ())
    return tuple(name for name in names if parks(pod, name))


def exclusive_gpu(spec: Mapping[str, Any], container: Mapping[str, Any]) -> tuple[str, str] | None:
    """Say which resource keeps a whole GPU idle while a worker is parked: the field below the container, and why."""
    resources = container.get("resources") or {}
    half = next((half for half in ("limits", "requests") if _asks(resources.get(half) or {})), None)
    if half is None or (spec.get("nodeSelector") or {}).get(SHARING_LABEL) in SHARING:
        return None
    words = (
        "a parked worker would keep a whole GPU that it does not use; share the device by a ResourceClaim that several "
        f"pods name, request {WHOLE_GPU}.shared, or, if the nodes' time slices have no name of their own, add "
        f"nodeSelector {SHARING_LABEL}: {SHARING[0]}"
    )
    return f"resources.{half}[{WHOLE_GPU}]", words


def _asks(resources: Mapping[str, Any]) -> bool:
    return str(resources.get(WHOLE_GPU) or "0") != "0"


def is_woken(pod: Mapping[str, Any]) -> bool:
    """Say whether the pod's workers are to go on."""
    return bool(annotations_of(pod).get(keys.ANN_WAKE))


def parked_id(pod: Mapping[str, Any], container: str) -> str:
    """Return the id of the container that the agent reports as parked; empty if there is none."""
    notes = annotations_of(pod)
    if notes.get(keys.ANN_RESTORE_STATUS_PREFIX + container) != RestoreStatus.PARKED:
        return ""
    return notes.get(keys.ANN_RESTORE_CONTAINER_ID_PREFIX + container, "")


def refuse_wake(pod: Mapping[str, Any]) -> Refusal | None:
    """Return why a pod cannot be woken; None if it can.

    One that is not parked yet can: it is then restored without a stop.
    """
    name = pod["metadata"].get("name")
    if words := ending(pod):
        return Refusal(Unwakeable.ENDING, words)
    found = parking_containers(pod)
    if not found:
        words = f"no worker of pod {name} is parked: its template has no annotation {keys.ANN_STANDBY}: "
        return Refusal(Unwakeable.NOT_PARKED, words + f"{keys.STANDBY_PARKS}, or it was not to be restored")
    states = {annotations_of(pod).get(keys.ANN_RESTORE_STATUS_PREFIX + each) for each in found}
    if RestoreStatus.FAILED in states:
        return Refusal(Unwakeable.ALREADY_STARTED, f"pod {name} started cold; `snapshotctl why {name}` says why")
    if is_woken(pod):
        return Refusal(Unwakeable.ALREADY_WOKEN, f"pod {name} was woken already")
    return None


def wake_patch(pod: Mapping[str, Any], value: str) -> Json:
    """Return the merge patch that wakes a pod, if it is as it was seen."""
    version = pod["metadata"].get("resourceVersion")
    return {"metadata": {"resourceVersion": version, "annotations": {keys.ANN_WAKE: value}}}
