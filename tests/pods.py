"""Pods that ask for an automatic checkpoint, and random pods of every kind that a cluster may hold."""

from __future__ import annotations

import copy
from typing import Any

from contract import keys
from contract.automatic import automatic_id, automatic_name, template_hash
from contract.checkpoint import find_container
from tests.shapes import IMAGE, checkpoint, container, pod

Json = dict[str, Any]

PROBE = {"httpGet": {"path": "/ready", "port": 8000}, "periodSeconds": 5}


def worker(name: str = "main", **fields: Any) -> Json:
    """A container that tells when it is ready."""
    return container(name, **{"readinessProbe": dict(PROBE), **fields})


def auto_pod(*containers: Json, **parts: Any) -> Json:
    """A pod whose checkpoint is made from its own template."""
    labels = {"app": "web", keys.LABEL_RESTORE: keys.RESTORE_AUTO} | parts.pop("labels", {})
    return pod(*(containers or (worker(),)), labels=labels, **parts)


def stamp_of(obj: Json, target: str = "main") -> str:
    return template_hash(obj, target)


def name_of(obj: Json, target: str = "main") -> str:
    """Name of the checkpoint that belongs to an automatic pod."""
    return automatic_name(automatic_id(obj["metadata"]["namespace"], stamp_of(obj, target)))


def checkpoint_of(obj: Json, *, phase: str = "Ready", target: str = "main", **status: Any) -> Json:
    """The checkpoint that the controller makes for an automatic pod."""
    found = automatic_id(obj["metadata"]["namespace"], stamp_of(obj, target))
    spec = {key: copy.deepcopy(value) for key, value in obj["spec"].items() if key != "nodeName"}
    image = (find_container(spec, target) or {}).get("image", IMAGE)
    usual = {"phase": phase, "checkpointID": found, "jobName": f"checkpoint-job-{found}-1"}
    if phase == "Ready":
        usual["image"] = {"reference": image, "entrypoint": ["/entry"], "cmd": ["serve"]}
    return checkpoint(
        automatic_name(found),
        pod_template={"spec": spec},
        job={"targetContainerName": target, "readySignal": "Probe"},
        labels={keys.LABEL_CHECKPOINT_ID: found},
        annotations={keys.ANN_AUTO_CHECKPOINT: "true", keys.ANN_ARTIFACT_VERSION: "1"},
        status=usual | status,
    )
