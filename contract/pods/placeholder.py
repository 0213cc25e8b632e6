"""Placeholders: pods whose standby waits until a checkpoint is named on them, and what may be named on which.

Pure, from the objects as they are. Admission looks at new pods only, so what is patched onto a placeholder is judged
here: by the command before it patches, for its user, and by the agent afterwards, which believes no client.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from enum import StrEnum
from typing import Any, NamedTuple

from contract.api import checkpoint as ckpt
from contract.api import keys
from contract.api.conditions import condition, is_true
from contract.api.states import ConditionType, Phase, RestoreStatus
from contract.pods.common import ending, runs_standby

Json = dict[str, Any]


class Unfit(StrEnum):
    """Why a checkpoint cannot be restored into an existing pod, a closed list; docs/placeholders.md explains each."""

    NOT_A_PLACEHOLDER = "not-a-placeholder"
    ENDING = "ending"
    ALREADY_RESTORED = "already-restored"
    ALREADY_RESTORING = "already-restoring"
    ALREADY_STARTED = "already-started"
    TARGETS_INVALID = "targets-invalid"
    CHECKPOINT_DELETING = "checkpoint-deleting"
    CHECKPOINT_NOT_READY = "checkpoint-not-ready"
    RESTORES_FAILING = "restores-failing"
    IMAGE_MISMATCH = "image-mismatch"
    NO_AGENT = "no-agent"


class Refusal(NamedTuple):
    """Why, for programs and for people."""

    code: Unfit
    message: str


def waits(container: Mapping[str, Any]) -> bool:
    """Say whether the container's standby waits for as long as it takes. No client can change a pod's command."""
    return runs_standby(container, keys.STANDBY_WAIT)


def waiting_containers(pod: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of the containers that wait to be restored in place; none if the pod is no placeholder."""
    return tuple(str(each.get("name")) for each in (pod.get("spec") or {}).get("containers") or () if waits(each))


def not_waiting(pod: Mapping[str, Any], targets: Sequence[str]) -> str | None:
    """Say which of the targets of a placeholder is no container that waits; None if all do."""
    waiting = waiting_containers(pod)
    wrong = next((name for name in targets if name not in waiting), None)
    if wrong is None:
        return None
    return f"container {wrong} does not wait for a restore; of this pod {', '.join(waiting)} does"


def other_image(pod: Mapping[str, Any], container: str, checkpoint: Mapping[str, Any]) -> str | None:
    """Say that a container runs another image than the captured one; None if it is the same, or not known.

    By name, as admission compares them; digests are compared by the agent when it restores.
    """
    captured = ((checkpoint.get("status") or {}).get("image") or {}).get("reference")
    own = (ckpt.find_container(pod.get("spec") or {}, container) or {}).get("image")
    if not captured or captured == own:
        return None
    return (
        f"container {container} has image {own}, the checkpoint was taken of {captured}; make a placeholder of that "
        "image"
    )


def refuse(pod: Mapping[str, Any], targets: Sequence[str], checkpoint: Mapping[str, Any]) -> Refusal | None:
    """Return why *checkpoint* cannot be restored into *targets* of an existing pod; None if it can be tried."""
    return _of_pod(pod, targets) or _of_checkpoint(checkpoint) or _of_both(pod, targets, checkpoint)


def in_place_patch(pod: Mapping[str, Any], targets: Sequence[str], checkpoint: Mapping[str, Any]) -> Json:
    """Return the merge patch that names the checkpoint on a pod, for agents that wait for such a word.

    It holds only if the pod is as it was seen: of two that name a checkpoint at once, one is refused.
    """
    checkpoint_id = ckpt.resolve_id(checkpoint) or ""
    return {
        "metadata": {
            "resourceVersion": pod["metadata"].get("resourceVersion"),
            "labels": {keys.LABEL_CHECKPOINT_ID: checkpoint_id, keys.LABEL_IS_RESTORE_TARGET: "true"},
            "annotations": {
                keys.ANN_CHECKPOINT: checkpoint["metadata"]["name"],
                keys.ANN_ARTIFACT_VERSION: ckpt.captured_version(checkpoint, checkpoint_id),
                keys.ANN_TARGET_CONTAINERS: ",".join(targets),
            },
        }
    }


def refuse_node(node: Mapping[str, Any]) -> Refusal | None:
    """Return that no agent of the pod's node is ready to restore; None if one is."""
    if ckpt.labels_of(node).get(keys.LABEL_NODE_READY) == keys.NODE_READY_VALUE:
        return None
    words = (
        f"node {node['metadata']['name']} has no ready snapshot agent (label {keys.LABEL_NODE_READY}); the pod would "
        "wait until there is one"
    )
    return Refusal(Unfit.NO_AGENT, words)


def _of_pod(pod: Mapping[str, Any], targets: Sequence[str]) -> Refusal | None:
    name = pod["metadata"].get("name")
    if words := ending(pod):
        return Refusal(Unfit.ENDING, words)
    waiting = waiting_containers(pod)
    if not waiting:
        words = f"pod {name} is no placeholder{_started(pod, targets)}; make one: snapshotctl placeholder"
        return Refusal(Unfit.NOT_A_PLACEHOLDER, words)
    if wrong := not_waiting(pod, targets):
        return Refusal(Unfit.TARGETS_INVALID, wrong)
    if left := [other for other in waiting if other not in targets]:
        words = f"container {left[0]} of pod {name} waits too; all that wait are restored together"
        return Refusal(Unfit.TARGETS_INVALID, words)
    named = ckpt.labels_of(pod).get(keys.LABEL_CHECKPOINT_ID)
    return _named_already(pod, targets, named) if named and not _is_misnamed(pod) else None


def _is_misnamed(pod: Mapping[str, Any]) -> bool:
    """Say whether a checkpoint was named for containers that do not wait, which no agent follows."""
    try:
        return not_waiting(pod, ckpt.target_containers(pod)) is not None
    except ckpt.TargetError:
        return True


def _started(pod: Mapping[str, Any], targets: Collection[str]) -> str:
    statuses = (pod.get("status") or {}).get("containerStatuses") or ()
    for status in statuses:
        since = ((status.get("state") or {}).get("running") or {}).get("startedAt")
        if since and (not targets or status.get("name") in targets):
            return f": its container {status['name']} started by itself at {since}"
    return ""


def _named_already(pod: Mapping[str, Any], targets: Sequence[str], named: str) -> Refusal:
    """Return the refusal of a placeholder that has had its checkpoint: it waits for no second one."""
    name, notes = pod["metadata"].get("name"), ckpt.annotations_of(pod)
    words = {notes.get(keys.ANN_RESTORE_STATUS_PREFIX + target) for target in targets}
    if RestoreStatus.FAILED in words:
        how = f"started cold when checkpoint {named} could not be restored; `snapshotctl why {name}` says why"
        return Refusal(Unfit.ALREADY_STARTED, f"pod {name} {how}, and a new placeholder waits again")
    if words == {RestoreStatus.COMPLETED}:
        return Refusal(Unfit.ALREADY_RESTORED, f"pod {name} was restored from checkpoint {named} already")
    return Refusal(Unfit.ALREADY_RESTORING, f"pod {name} is being restored from checkpoint {named} already")


def _of_checkpoint(checkpoint: Mapping[str, Any]) -> Refusal | None:
    name, phase = checkpoint["metadata"]["name"], (checkpoint.get("status") or {}).get("phase") or Phase.PENDING
    if checkpoint["metadata"].get("deletionTimestamp"):
        return Refusal(Unfit.CHECKPOINT_DELETING, f"DynamoCheckpoint {name} is being deleted")
    if phase != Phase.READY:
        words = f"DynamoCheckpoint {name} is {phase}, not Ready: snapshotctl describe {name}"
        return Refusal(Unfit.CHECKPOINT_NOT_READY, words)
    if is_true(checkpoint, ConditionType.RESTORES_FAILING):
        failing = condition(checkpoint, ConditionType.RESTORES_FAILING) or {}
        words = f"DynamoCheckpoint {name}: {failing.get('message') or 'its restores fail one like the other'}"
        return Refusal(Unfit.RESTORES_FAILING, words)
    return None


def _of_both(pod: Mapping[str, Any], targets: Sequence[str], checkpoint: Mapping[str, Any]) -> Refusal | None:
    for target in targets:
        if words := other_image(pod, target, checkpoint):
            return Refusal(Unfit.IMAGE_MISMATCH, words)
    return None
