"""When a held pod is let go, and how it looks then: one pure function.

A held pod was shaped for restore at its admission, and can be let go as nothing else. That is no loss if there is
no checkpoint after all: ``snapshot-standby`` then starts the worker cold. All that the decision needs is on the
objects, so a controller that is restarted decides as its predecessor would have.
"""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from contract.api import keys
from contract.api.checkpoint import annotations_of, captured_version, is_given_up, resolve_id
from contract.api.states import Admission, GateEnd, Phase
from contract.config.storage import BadIdError
from controller.workloads import pods
from controller.workloads.gates.deadlines import Allowance
from kube.api import Object

GRACE: Final = 10.0
"""Seconds that a pod's checkpoint may be unknown to us: the webhook's copy may be ahead of ours."""
REFUSED_GRACE: Final = 60.0
"""Seconds that a pod waits for a checkpoint whose creation the API server refuses: a policy may be corrected."""


@dataclass(frozen=True, slots=True)
class Hold:
    """The pod waits on."""

    seconds: float | None = None
    """When to look again although nothing changed."""
    problem: str = ""
    """Why it would be let go if it were allowed to start cold."""


@dataclass(frozen=True, slots=True)
class Lift:
    """The pod is let go."""

    end: GateEnd
    why: str
    patch: Object = field(compare=False)
    """Strategic merge patch of the pod, good for the version that was looked at and no other."""


@dataclass(frozen=True, slots=True)
class CheckpointView:
    """What is known about the checkpoint of a held pod."""

    checkpoint: Object | None = None
    deleted: datetime | None = None
    """When it was deleted, as far as we saw it; pods from before then are meant."""
    refusal: str = ""
    """The server's words where the checkpoint may not be made."""

    def outlived_by(self, pod: Object) -> bool:
        """Say whether the checkpoint that *pod* meant was deleted."""
        return self.deleted is not None and pods.created(pod) <= self.deleted


def plan(
    pod: Object, sight: CheckpointView, now: datetime, wait_seconds: float, allowed: Allowance | None = None
) -> Hold | Lift | None:
    """Return what to do with *pod* now; None if it is not held.

    Args:
        pod: the pod.
        sight: what is known about its checkpoint.
        now: the moment.
        wait_seconds: the chart value ``waitTimeout``.
        allowed: how long its workload lets it wait, if that sets a limit.
    """
    if not pods.held(pod):
        return None
    checkpoint = sight.checkpoint
    if checkpoint is not None and _phase(checkpoint) == Phase.READY and not _deleting(checkpoint):
        why = f"DynamoCheckpoint {checkpoint['metadata']['name']} is Ready"
        return Lift(GateEnd.CHECKPOINT_READY, why, _ready_patch(pod, checkpoint))
    age = (now - pods.created(pod)).total_seconds()
    end, why = _end(pod, sight, age, wait_seconds)
    if end is None and allowed is not None and age >= allowed.seconds:
        end, why = GateEnd.JOB_DEADLINE, allowed.why
    if end is None:
        longest = wait_seconds if allowed is None else min(wait_seconds, allowed.seconds)
        return Hold(_next_look(pod, sight, age, longest))
    if pods.required(pod):
        return Hold(problem=why)
    return Lift(end, why, _patch(pod, {keys.ANN_GATE: end.value}))


def without_claim(step: Lift, problem: str) -> Lift:
    """Return the same for a pod that cannot start: the claim that it mounts has a *problem*."""
    end = GateEnd.VOLUME_CLAIM_UNAVAILABLE
    metadata = step.patch["metadata"]
    notes = metadata["annotations"] | {keys.ANN_GATE: end.value}
    patch = step.patch | {"metadata": metadata | {"annotations": notes}}
    return Lift(end, f"{step.why}, but {problem}", patch)


def _end(pod: Object, sight: CheckpointView, age: float, wait_seconds: float) -> tuple[GateEnd | None, str]:
    name = pods.checkpoint_name(pod)
    checkpoint = sight.checkpoint
    if _is_deleted(pod, sight, age):
        return GateEnd.CHECKPOINT_DELETED, f"DynamoCheckpoint {name} was deleted"
    # One that was cancelled because no pod requested it is restarted by this very pod.
    if checkpoint is not None and _phase(checkpoint) == Phase.FAILED and not is_given_up(checkpoint):
        message = (checkpoint.get("status") or {}).get("message") or "no message"
        return GateEnd.CHECKPOINT_FAILED, f"DynamoCheckpoint {name} failed: {message}"
    if checkpoint is None and sight.refusal and age >= REFUSED_GRACE:
        return GateEnd.CHECKPOINT_FAILED, f"DynamoCheckpoint {name} may not be made: {sight.refusal}"
    if age >= wait_seconds:
        words = f"DynamoCheckpoint {name} was not Ready within {wait_seconds:.0f} s (chart value waitTimeout)"
        return GateEnd.WAIT_TIMEOUT, words
    return None, ""


def _is_deleted(pod: Object, sight: CheckpointView, age: float) -> bool:
    if sight.checkpoint is not None:
        return _deleting(sight.checkpoint)
    if sight.outlived_by(pod):
        return True
    # One that is still to be made is not deleted, however long that takes.
    return not pods.asks(pod) and age >= GRACE


def _next_look(pod: Object, sight: CheckpointView, age: float, wait_seconds: float) -> float:
    moments = [wait_seconds]
    if sight.checkpoint is None:
        moments += [REFUSED_GRACE] if sight.refusal else []
        moments += [] if pods.asks(pod) else [GRACE]
    return max(min(moments) - age, 0.0)


def _ready_patch(pod: Object, checkpoint: Object) -> Object:
    notes = {
        keys.ANN_GATE: GateEnd.CHECKPOINT_READY.value,
        keys.ANN_ADMISSION: Admission.RESTORE_SHAPED.value,
        keys.ANN_CHECKPOINT: checkpoint["metadata"]["name"],
    }
    version = _version(checkpoint)
    if version and annotations_of(pod).get(keys.ANN_ARTIFACT_VERSION) != version:
        notes[keys.ANN_ARTIFACT_VERSION] = version
    images = _images(pod, checkpoint)
    for container in images:
        key = keys.ANN_ORIGINAL_IMAGE_PREFIX + container["name"]
        if key not in annotations_of(pod):
            notes[key] = container["was"]
    return _patch(pod, notes, [{"name": each["name"], "image": each["image"]} for each in images])


def _version(checkpoint: Object) -> str:
    """Return the version that was captured: more attempts may have been needed than when the pod was shaped."""
    try:
        return captured_version(checkpoint, resolve_id(checkpoint))
    except BadIdError:
        return ""


def _images(pod: Object, checkpoint: Object) -> list[dict[str, str]]:
    """Targets that have another image than the one that was captured."""
    image = str(((checkpoint.get("status") or {}).get("image") or {}).get("reference") or "")
    targets = annotations_of(pod).get(keys.ANN_TARGET_CONTAINERS, "").split(",")
    containers = (pod.get("spec") or {}).get("containers") or ()
    return [
        {"name": each["name"], "image": image, "was": each["image"]}
        for each in containers
        if image and each["name"] in targets and each["image"] != image
    ]


def _patch(pod: Object, notes: dict[str, str], containers: list[Object] | None = None) -> Object:
    metadata = {"resourceVersion": pod["metadata"]["resourceVersion"], "annotations": notes}
    # Takes away our gate by its name and leaves those of others.
    spec: Object = {"schedulingGates": [{"$patch": "delete", "name": keys.SCHEDULING_GATE}]}
    if containers:
        spec["containers"] = containers
    return {"metadata": metadata, "spec": spec}


def _phase(checkpoint: Object) -> str:
    return str((checkpoint.get("status") or {}).get("phase") or "")


def _deleting(checkpoint: Object) -> bool:
    return bool(checkpoint["metadata"].get("deletionTimestamp"))
