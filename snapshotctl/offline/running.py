"""The DynamoCheckpoint of a running pod, so that a later pod of the same template restores from it. Pure."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping
from typing import Any

from contract.api import keys
from contract.api.checkpoint import TargetError, annotations_of, labels_of
from contract.api.states import ReadySignal
from contract.config.storage import BadIdError, check_id
from contract.pods.template_hash import automatic_id, automatic_name, automatic_target
from controller.workloads.auto_checkpoint import Workload, automatic_checkpoint, fits, running_source
from controller.workloads.pods import stamp_of
from controller.workloads.template import template_of
from kube.api import Object
from snapshotctl.errors import UserError
from snapshotctl.offline.manual import ID_PREFIX, checkpoint_body, targets_of


def running_checkpoint(pod: Object, container: str | None, name: str | None, more: Iterable[str] = ()) -> Object:
    """Build the checkpoint of a running pod.

    Args:
        pod: as the API server has it.
        container: the one to capture; None: the pod's own target.
        name: of the checkpoint; None: that of the pod's template if the pod is automatic, else a new one.
        more: the chart value ``automatic.hashAnnotations``.

    Raises:
        UserError: the pod does not run, has not this container, or names a checkpoint that is not its template's.
    """
    metadata = pod["metadata"]
    if (pod.get("status") or {}).get("phase") != "Running" or metadata.get("deletionTimestamp"):
        raise UserError(f"pod {metadata['name']} does not run; only a running worker can be captured")
    targets = targets_of(pod, container)
    if len(targets) != 1:
        raise UserError(f"one container is captured, found {', '.join(targets)}; choose with --container")
    if name is None and _own_name(pod, targets[0]):
        if not fits(pod, pod, more):
            # Its annotations would get its memory into pods of another template.
            words = f"pod {metadata['name']} is not of the template whose hash is in its annotation"
            raise UserError(f"{words} {keys.ANN_TEMPLATE_HASH}; give it a name of its own with --name")
        body = automatic_checkpoint(pod, Workload(f"Pod/{metadata['name']}", pod | {"kind": "Pod"}))
    else:
        plain = template_of(pod) | {"metadata": template_of(pod).get("metadata") or {}}
        wanted = _checked(name) if name else ID_PREFIX + secrets.token_hex(6)
        body = checkpoint_body(plain, targets[0], wanted, metadata["namespace"], ReadySignal.FILE.value)
        body["spec"]["identity"]["model"] = f"{metadata['namespace']}/{metadata['name']}"
    body["spec"]["job"]["readySignal"] = ReadySignal.FILE.value
    body["spec"]["source"] = running_source(pod)
    return body


def _checked(name: str) -> str:
    try:
        return check_id(name)
    except BadIdError as error:
        raise UserError(f"--name: {error}") from error


def _own_name(pod: Mapping[str, Any], target: str) -> str:
    """Return the checkpoint's name that pods of this template ask for; empty if the pod is not automatic."""
    stamp = stamp_of(dict(pod))
    if labels_of(pod).get(keys.LABEL_RESTORE) != keys.RESTORE_AUTO or not stamp:
        return ""
    name = automatic_name(automatic_id(pod["metadata"]["namespace"], stamp))
    try:
        own = automatic_target(pod) == target and annotations_of(pod).get(keys.ANN_CHECKPOINT) == name
    except TargetError:
        return ""
    return name if own else ""
