"""Placeholder pods, made of a checkpoint or of a pod's manifest: pods that wait to be restored in place. Pure."""

from __future__ import annotations

import copy
import secrets
from collections.abc import Mapping, Sequence
from typing import Any, Final

from contract.api import keys
from contract.api.checkpoint import annotations_of, id_of, job_target, labels_of, parse_targets, template
from contract.api.states import Admission
from contract.pods.common import has_named
from kube.api import Object
from snapshotctl.errors import UserError
from snapshotctl.offline.manual import restore_body, targets_of
from webhook.pod_schema import malformed

_OF_A_JOB: Final = ("restartPolicy", "nodeName", "activeDeadlineSeconds")
"""Fields that a template has because a Job runs it, or that tie it to one node."""
_MAX_STEM: Final = 40


def pod_of_checkpoint(checkpoint: Mapping[str, Any], name: str | None) -> Object:
    """Return the pod that a checkpoint was captured of, or will be, under a name of its own.

    Raises:
        UserError: its template is not one that a pod can be made of.
    """
    found, of = template(checkpoint), str(checkpoint["metadata"]["name"])
    pod: Object = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": copy.deepcopy(found.get("metadata") or {}),
        "spec": copy.deepcopy(found.get("spec") or {}),
    }
    if problem := malformed(pod):
        raise UserError(f"DynamoCheckpoint {of}: its template cannot be read: {problem}")
    target = job_target(checkpoint)
    if not has_named(pod["spec"].get("containers"), target):
        raise UserError(f"DynamoCheckpoint {of}: its template has no container {target}")
    stem = of[:_MAX_STEM].rstrip("-.")
    pod["metadata"] = {
        "name": name or f"{stem}-placeholder-{secrets.token_hex(3)}",
        "labels": dict(labels_of(pod)),
        "annotations": {**annotations_of(pod), keys.ANN_TARGET_CONTAINERS: target},
    }
    pod["spec"] = {field: value for field, value in pod["spec"].items() if field not in _OF_A_JOB}
    return pod


def placeholder_body(
    pod: Mapping[str, Any], containers: str | None, checkpoint: str | None, namespace: str | None
) -> Object:
    """Return the placeholder that is created of a pod.

    Args:
        pod: as a manifest or a checkpoint has it.
        containers: those that are to wait, with commas; None: the pod's own targets.
        checkpoint: name of the one whose shape it gets; None: that of a checkpoint of the pod's own spec.
        namespace: where it is created; None: where its reader's context is.

    Raises:
        UserError: a container does not exist, or pod and command line do not agree.
    """
    targets = targets_of(pod, containers)
    body = restore_body(pod, checkpoint or "", targets, namespace or "")
    annotations = body["metadata"]["annotations"]
    if checkpoint is None:
        del annotations[keys.ANN_CHECKPOINT_NAME]
    if not namespace:
        del body["metadata"]["namespace"]
    annotations[keys.ANN_STANDBY] = keys.STANDBY_WAITS
    return body


def placeholder_facts(created: Mapping[str, Any], checkpoint: Mapping[str, Any] | None) -> dict[str, str]:
    """Return what is printed of a placeholder that was created, in order."""
    metadata, annotations = created["metadata"], annotations_of(created)
    return {
        "status": "created",
        "namespace": str(metadata.get("namespace", "")),
        "name": str(metadata["name"]),
        "checkpoint_id": id_of(checkpoint) if checkpoint is not None else "",
        "containers": annotations.get(keys.ANN_TARGET_CONTAINERS, ""),
        "admission": annotations.get(keys.ANN_ADMISSION, Admission.WEBHOOK_UNREACHABLE.value),
    }


def containers_of(waiting: Sequence[str], said: str | None) -> tuple[str, ...]:
    """Return the containers to restore in place: those that the command line names, else all that wait."""
    return tuple(name for _, name in parse_targets(said)) if said else tuple(waiting)
