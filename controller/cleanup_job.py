"""The Job that removes the artifacts of a checkpoint which is being deleted."""

from typing import Final

from contract import keys
from contract.storage import Storage, check_id
from contract.values import Values
from kube.resources import JOBS
from kube.seam import Object

DEADLINE_SECONDS: Final = 300
TTL_SECONDS: Final = 300
ENV_BASE_PATH: Final = "CHECKPOINT_BASE_PATH"
ENV_ID: Final = "CHECKPOINT_ID"
CONTAINER: Final = "cleanup"


def cleanup_job_name(checkpoint_id: str) -> str:
    """``checkpoint-cleanup-<id>``."""
    return f"checkpoint-cleanup-{checkpoint_id}"


def shape_cleanup_job(
    checkpoint: Object, checkpoint_id: str, namespace: str, *, values: Values, storage: Storage
) -> Object:
    """A Job in *namespace* that removes ``<base>/<id>`` with all versions.

    It has the least that can do this: no service account token, no capability, a read-only root.  It is uid 0, because
    the agent writes artifacts as root and only their owner may remove them.  The command is an argument list, so an
    id is never read by a shell.

    Raises:
        BadIdError: *checkpoint_id* cannot be part of a path.
    """
    labels = {keys.LABEL_CHECKPOINT_ID: check_id(checkpoint_id)}
    metadata: Object = {
        "name": cleanup_job_name(checkpoint_id),
        "namespace": namespace,
        "labels": dict(labels),
        "annotations": {keys.ANN_CHECKPOINT: checkpoint["metadata"]["name"]},
    }
    if namespace == checkpoint["metadata"].get("namespace"):
        metadata["ownerReferences"] = [_owner(checkpoint)]
    pod_spec: Object = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {"runAsUser": 0, "runAsGroup": 0, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [_container(checkpoint_id, values, storage)],
        "volumes": [{"name": keys.STORAGE_VOLUME, "persistentVolumeClaim": {"claimName": storage.pvc_name}}],
    }
    if values.control_plane.image_pull_secrets:
        pod_spec["imagePullSecrets"] = [{"name": each.name} for each in values.control_plane.image_pull_secrets]
    return {
        "apiVersion": JOBS.api_version,
        "kind": JOBS.kind,
        "metadata": metadata,
        "spec": {
            "backoffLimit": 0,
            "activeDeadlineSeconds": DEADLINE_SECONDS,
            "ttlSecondsAfterFinished": TTL_SECONDS,
            "template": {"metadata": {"labels": labels}, "spec": pod_spec},
        },
    }


def _command(checkpoint_id: str, values: Values, storage: Storage) -> list[str]:
    """Our own image has Python and no ``rm``, any other is expected to have ``rm``."""
    if values.checkpoint.cleanup_image:
        return ["rm", "-rf", "--", f"{storage.base_path}/{checkpoint_id}"]
    return ["python3", "-m", "controller.remove", storage.base_path, checkpoint_id]


def _container(checkpoint_id: str, values: Values, storage: Storage) -> Object:
    return {
        "name": CONTAINER,
        "image": values.cleanup_image,
        "imagePullPolicy": values.control_plane.image.pull_policy,
        "command": _command(checkpoint_id, values, storage),
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
        "volumeMounts": [{"name": keys.STORAGE_VOLUME, "mountPath": storage.base_path}],
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
