"""Checkpoints and restores made by hand from a pod's manifest: what is created for them. Pure.

The manifest may carry target metadata already; then it must say the same as the command line.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, Final

from contract.api import keys
from contract.api.checkpoint import (
    TargetError,
    annotations_of,
    check_target,
    labels_of,
    other_container,
    parse_targets,
    target_containers,
)
from contract.api.states import Admission
from contract.config.storage import BadIdError, check_id
from kube.api import Object
from snapshotctl.errors import UserError
from webhook.pod_schema import malformed

ID_PREFIX: Final = "manual-snapshot-"
_OURS: Final = frozenset(
    {keys.LABEL_CHECKPOINT_ID, keys.LABEL_IS_RESTORE_TARGET, keys.LABEL_IS_SOURCE, keys.LABEL_RESTORE}
)


def pod_of(objects: Sequence[Mapping[str, Any]], source: str) -> Object:
    """Return the only pod of a file.

    Raises:
        UserError: it holds something else.
    """
    if len(objects) != 1 or objects[0].get("kind") != "Pod":
        kinds = ", ".join(str(obj.get("kind")) for obj in objects) or "nothing"
        raise UserError(f"{source}: one Pod manifest is needed, found {kinds}")
    if problem := malformed(objects[0]):
        raise UserError(f"{source}: the pod cannot be read: {problem}")
    return copy.deepcopy(dict(objects[0]))


def targets_of(pod: Mapping[str, Any], said: str | None) -> tuple[str, ...]:
    """Choose the containers that the command line names, else the manifest, else the usual one.

    Raises:
        UserError: one does not exist, or the two do not agree.
    """
    wanted = tuple(name for _, name in _parsed(said)) if said else None
    noted = annotations_of(pod).get(keys.ANN_TARGET_CONTAINERS)
    names = [str(each.get("name")) for each in pod["spec"].get("containers") or ()]
    try:
        for name in wanted or ():
            check_target(name, names)
        own = target_containers(pod) if wanted is None or noted is not None else wanted
    except TargetError as error:
        raise UserError(str(error)) from error
    if wanted is not None and set(wanted) != set(own):
        raise UserError(
            f"the manifest's annotation {keys.ANN_TARGET_CONTAINERS} says {noted}, the command line says {said}; "
            "leave one of them out"
        )
    return wanted or own


def check_captured(pod: Mapping[str, Any], said: str | None, checkpoint: Mapping[str, Any]) -> None:
    """Check that the containers which the targets are to continue, as ``main`` in ``main=engine-0``, were captured.

    Raises:
        UserError: one was not.
    """
    for captured, _ in _parsed(said or annotations_of(pod).get(keys.ANN_TARGET_CONTAINERS) or "main"):
        if words := other_container(captured, checkpoint):
            raise UserError(words)


def _parsed(said: str) -> tuple[tuple[str, str], ...]:
    try:
        return parse_targets(said)
    except TargetError as error:
        raise UserError(str(error)) from error


def checkpoint_body(pod: Mapping[str, Any], target: str, checkpoint_id: str, namespace: str, signal: str) -> Object:
    """Build a DynamoCheckpoint that captures the pod of a manifest under an id.

    Raises:
        UserError: the id cannot be one.
    """
    labels = {key: value for key, value in labels_of(pod).items() if key not in _OURS}
    annotations = dict(annotations_of(pod))
    spec = {key: value for key, value in pod["spec"].items() if key != "nodeName"}
    metadata = {key: value for key, value in (("labels", labels), ("annotations", annotations)) if value}
    template = {"metadata": metadata, "spec": spec} if metadata else {"spec": spec}
    name = (pod.get("metadata") or {}).get("name") or "pod"
    return {
        "apiVersion": keys.API_VERSION,
        "kind": keys.CHECKPOINT_KIND,
        "metadata": {
            "name": check_checkpoint_id(checkpoint_id),
            "namespace": namespace,
            "labels": {keys.LABEL_CHECKPOINT_ID: checkpoint_id},
        },
        "spec": {
            "identity": {"model": f"{namespace}/{name}", "backendFramework": "generic"},
            "job": {"podTemplateSpec": template, "targetContainerName": target, "readySignal": signal},
        },
    }


def check_checkpoint_id(checkpoint_id: str) -> str:
    """Return the id; it becomes a name, a label and a selector.

    Raises:
        UserError: it cannot be one.
    """
    try:
        return check_id(checkpoint_id)
    except BadIdError as error:
        raise UserError(f"--checkpoint-id: {error}") from error


def restore_body(pod: Mapping[str, Any], checkpoint: str, targets: Sequence[str], namespace: str) -> Object:
    """Build a pod that restores by name."""
    body = copy.deepcopy(dict(pod))
    metadata = body["metadata"] = dict(body.get("metadata") or {})
    labels = {key: value for key, value in labels_of(pod).items() if key not in _OURS}
    wanted = {keys.ANN_CHECKPOINT_NAME: checkpoint, keys.ANN_TARGET_CONTAINERS: ",".join(targets)}
    stale = {keys.ANN_RESTORE_FROM, keys.ANN_RESTORE_CANDIDATE, keys.ANN_STANDBY}
    annotations = {key: value for key, value in annotations_of(pod).items() if key not in stale}
    metadata["namespace"] = namespace
    metadata["labels"] = labels | {keys.LABEL_RESTORE: keys.RESTORE_BY_NAME}
    metadata["annotations"] = annotations | wanted
    body.pop("status", None)
    return body


def restore_facts(created: Mapping[str, Any], checkpoint: Mapping[str, Any], checkpoint_id: str) -> dict[str, str]:
    """Return what is printed of a pod that was created to restore from a checkpoint, in order."""
    metadata, annotations = created["metadata"], annotations_of(created)
    return {
        "status": "submitted",
        "namespace": str(metadata.get("namespace", "")),
        "name": str(metadata["name"]),
        "restore_pod": str(metadata["name"]),
        "checkpoint_id": checkpoint_id,
        "checkpoint_location": str((checkpoint.get("status") or {}).get("location", "")),
        "containers": annotations.get(keys.ANN_TARGET_CONTAINERS, ""),
        "admission": annotations.get(keys.ANN_ADMISSION, Admission.WEBHOOK_UNREACHABLE.value),
    }
