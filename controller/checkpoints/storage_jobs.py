"""Jobs that mount checkpoint storage: one removes artifacts, one looks at an artifact that shall be taken over.

They have the least that can do this: no service account token, no capability, a read-only root. They are uid 0:
the agent writes artifacts as root, readable and removable by their owner alone. Commands are argument lists, so an id
is never read by a shell.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from contract.api import keys
from contract.config.sections import PullSecret
from contract.config.storage import Storage, artifact_path, check_id, check_version
from contract.config.values import Values
from kube.api import Object
from kube.resources import JOBS

CLEANUP_SECONDS: Final = 300
INSPECT_SECONDS: Final = 3600
"""An artifact is read whole: 180 GB at the 50 MB/s of slow storage."""
TTL_SECONDS: Final = 300
ENV_BASE_PATH: Final = "CHECKPOINT_BASE_PATH"
ENV_ID: Final = "CHECKPOINT_ID"
MAX_NAME: Final = 63
"""A Job's name becomes a label value on its pods."""


@dataclass(frozen=True, kw_only=True)
class _Run:
    """What one kind of Job runs."""

    container: str
    image: str
    pull_policy: str
    pull_secrets: Sequence[PullSecret]
    tolerations: Sequence[dict[str, Any]]
    command: list[str]
    seconds: int
    read_only: bool = False


def cleanup_job_name(checkpoint_id: str, version: str = "") -> str:
    """Return ``checkpoint-cleanup-<id>``, ``checkpoint-trim-<id>-<version>`` if one version is removed."""
    return _name("checkpoint-trim" if version else "checkpoint-cleanup", checkpoint_id, version)


def adopt_job_name(checkpoint_id: str, version: str) -> str:
    """Return ``checkpoint-adopt-<id>-<version>``."""
    return _name("checkpoint-adopt", checkpoint_id, version)


def build_cleanup_job(
    checkpoint: Object, checkpoint_id: str, namespace: str, *, values: Values, storage: Storage, version: str = ""
) -> Object:
    """Return a Job in *namespace* that removes ``<base>/<id>`` with all versions, or one *version* of it.

    Raises:
        BadIdError: *checkpoint_id* or *version* cannot be part of a path.
    """
    control = values.control_plane
    run = _Run(
        container="cleanup",
        image=values.cleanup_image,
        pull_policy=control.image.pull_policy,
        pull_secrets=values.control_plane_pull_secrets,
        tolerations=control.tolerations,
        command=_removal(check_id(checkpoint_id), version and check_version(version), values, storage),
        seconds=CLEANUP_SECONDS,
    )
    return _job(cleanup_job_name(checkpoint_id, version), checkpoint, checkpoint_id, namespace, run, storage)


def build_adopt_job(
    checkpoint: Object, checkpoint_id: str, version: str, namespace: str, *, values: Values, storage: Storage
) -> Object:
    """Return a Job in *namespace* that verifies an artifact and reports what it is, as JSON in its termination message.

    It runs the agent's own code, so that what it accepts is what a restore accepts.

    Raises:
        BadIdError: *checkpoint_id* or *version* cannot be part of a path.
    """
    agent = values.daemonset
    run = _Run(
        container="inspect",
        image=values.agent_image,
        pull_policy=agent.image.pull_policy,
        pull_secrets=values.agent_pull_secrets,
        tolerations=agent.tolerations,
        command=[
            "python3",
            "-m",
            "artifact",
            "verify",
            storage.base_path,
            check_id(checkpoint_id),
            check_version(version),
        ],
        seconds=INSPECT_SECONDS,
        read_only=True,
    )
    return _job(adopt_job_name(checkpoint_id, version), checkpoint, checkpoint_id, namespace, run, storage)


def _removal(checkpoint_id: str, version: str, values: Values, storage: Storage) -> list[str]:
    """Our own image has Python and no ``rm``, any other is expected to have ``rm``."""
    if values.checkpoint.cleanup_image:
        path = artifact_path(storage.base_path, checkpoint_id, version) if version else None
        return ["rm", "-rf", "--", path or f"{storage.base_path}/{checkpoint_id}"]
    return ["python3", "-m", "artifact", "remove", storage.base_path, checkpoint_id, *([version] if version else [])]


def _job(name: str, checkpoint: Object, checkpoint_id: str, namespace: str, run: _Run, storage: Storage) -> Object:
    metadata: Object = {
        "name": name,
        "namespace": namespace,
        # On the Job alone: a pod with this label is one that restores.
        "labels": {keys.LABEL_CHECKPOINT_ID: checkpoint_id},
        "annotations": {
            keys.ANN_CHECKPOINT: checkpoint["metadata"]["name"],
            keys.ANN_CHECKPOINT_NAMESPACE: str(checkpoint["metadata"].get("namespace", "")),
        },
    }
    if namespace == checkpoint["metadata"].get("namespace"):
        metadata["ownerReferences"] = [_owner(checkpoint)]
    return {
        "apiVersion": JOBS.api_version,
        "kind": JOBS.kind,
        "metadata": metadata,
        "spec": {
            "backoffLimit": 0,
            "activeDeadlineSeconds": run.seconds,
            "ttlSecondsAfterFinished": TTL_SECONDS,
            "template": {"spec": _pod_spec(run, checkpoint_id, storage)},
        },
    }


def _pod_spec(run: _Run, checkpoint_id: str, storage: Storage) -> Object:
    volume: Object = {"name": keys.STORAGE_VOLUME, "persistentVolumeClaim": {"claimName": storage.pvc_name}}
    spec: Object = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {"runAsUser": 0, "runAsGroup": 0, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [_container(run, checkpoint_id, storage)],
        "volumes": [volume],
    }
    if run.tolerations:
        spec["tolerations"] = list(run.tolerations)
    if run.pull_secrets:
        spec["imagePullSecrets"] = [{"name": each.name} for each in run.pull_secrets]
    return spec


def _container(run: _Run, checkpoint_id: str, storage: Storage) -> Object:
    mount: Object = {"name": keys.STORAGE_VOLUME, "mountPath": storage.base_path}
    return {
        "name": run.container,
        "image": run.image,
        "imagePullPolicy": run.pull_policy,
        "command": run.command,
        "env": [{"name": ENV_BASE_PATH, "value": storage.base_path}, {"name": ENV_ID, "value": checkpoint_id}],
        "resources": {
            "requests": {"cpu": "10m", "memory": "16Mi"},
            "limits": {"cpu": "1", "memory": "256Mi"},
        },
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [mount | ({"readOnly": True} if run.read_only else {})],
    }


def _owner(checkpoint: Object) -> Object:
    return {
        "apiVersion": keys.API_VERSION,
        "kind": keys.CHECKPOINT_KIND,
        "name": checkpoint["metadata"]["name"],
        "uid": checkpoint["metadata"].get("uid", ""),
        "controller": True,
        "blockOwnerDeletion": False,
    }


def _name(what: str, checkpoint_id: str, version: str) -> str:
    """Cut long ones, and distinguish them by a hash of the whole."""
    whole = "-".join(part for part in (what, checkpoint_id, version) if part)
    if len(whole) <= MAX_NAME:
        return whole
    mark = hashlib.sha256(whole.encode()).hexdigest()[:10]
    return f"{whole[: MAX_NAME - len(mark) - 1].rstrip('-')}-{mark}"
