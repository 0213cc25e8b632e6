"""Builders of the objects that the contract speaks of, minimal and valid; keywords replace parts."""

from __future__ import annotations

from typing import Any

import orjson

from contract.api import keys

Json = dict[str, Any]

IDENTITY = {
    "model": "Qwen/Qwen3-0.6B",
    "backendFramework": "vllm",
    "tensorParallelSize": 1,
    "dtype": "bfloat16",
    "maxModelLen": 4096,
}
ID = "3bff874d069f0ed5"
IMAGE = "example.test/vllm-placeholder:1"


def container(name: str = "main", **fields: Any) -> Json:
    return {"name": name, "image": IMAGE, "command": ["python3", "-m", "worker"], "args": ["--port", "8000"], **fields}


def template(*containers: Json, metadata: Json | None = None, **spec: Any) -> Json:
    result: Json = {"spec": {"containers": list(containers) or [container()], **spec}}
    return result | ({"metadata": metadata} if metadata else {})


def checkpoint(
    name: str = "qwen",
    *,
    pod_template: Json | None = None,
    job: Json | None = None,
    status: Json | None = None,
    annotations: Json | None = None,
    labels: Json | None = None,
    **spec: Any,
) -> Json:
    metadata: Json = {"name": name, "namespace": "ns", "uid": "uid-1", "generation": 1}
    if annotations:
        metadata["annotations"] = annotations
    if labels:
        metadata["labels"] = labels
    body = {"podTemplateSpec": pod_template or template(), **(job or {})}
    result: Json = {
        "apiVersion": keys.API_VERSION,
        "kind": keys.CHECKPOINT_KIND,
        "metadata": metadata,
        "spec": {"identity": dict(IDENTITY), "job": body, **spec},
    }
    return result | ({"status": status} if status else {})


def ready(name: str = "qwen", **parts: Any) -> Json:
    status = {"phase": "Ready", "checkpointID": ID, "jobName": f"checkpoint-job-{ID}-1"}
    return checkpoint(name, **{"status": status, **parts})


def pod(*containers: Json, labels: Json | None = None, annotations: Json | None = None, **spec: Any) -> Json:
    metadata: Json = {"generateName": "web-7d9c-", "namespace": "ns"}
    if labels is not None:
        metadata["labels"] = labels
    if annotations is not None:
        metadata["annotations"] = annotations
    body = {"containers": list(containers) or [container()], "restartPolicy": "Always", **spec}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": body}


def opted_in(*containers: Json, name: str = "qwen", **parts: Any) -> Json:
    """Return a pod that asks for restore by name."""
    labels = {"app": "web", keys.LABEL_RESTORE: keys.RESTORE_BY_NAME} | parts.pop("labels", {})
    annotations = {keys.ANN_CHECKPOINT_NAME: name} | parts.pop("annotations", {})
    return pod(*containers, labels=labels, annotations=annotations, **parts)


def graph_pod(*containers: Json, name: str = "qwen", **parts: Any) -> Json:
    """Return a worker pod of a graph deployment."""
    labels = dict.fromkeys(keys.GRAPH_LABELS, "worker") | parts.pop("labels", {})
    wish = {keys.ANN_RESTORE_CANDIDATE: "true", keys.ANN_CHECKPOINT_NAME: name, keys.ANN_TARGET_CONTAINERS: "main"}
    return pod(*containers, labels=labels, annotations=wish | parts.pop("annotations", {}), **parts)


def claim(name: str = "snapshot-pvc") -> Json:
    """Build a volume claim for artifacts, as a user applies it; by default of the name that the chart's values give."""
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name}, "spec": spec}


def copied(obj: Any) -> Any:
    """Return a deep copy of a JSON value, much sooner than ``copy.deepcopy``: property tests make thousands."""
    return orjson.loads(orjson.dumps(obj))


def request(obj: Json, **fields: Any) -> Json:
    """Return the ``request`` of an AdmissionReview."""
    kind = {"group": "", "version": "v1", "kind": "Pod"}
    base = {"uid": "0b5d", "kind": kind, "operation": "CREATE", "namespace": "ns", "object": copied(obj)}
    return base | fields


def review(obj: Json, **fields: Any) -> Json:
    return {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request(obj, **fields)}
