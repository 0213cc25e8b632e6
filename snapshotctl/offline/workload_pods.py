"""From any workload's manifest to the pods that its controller would create, as admission would see them.

Known kinds get what their controllers add; of any other kind every pod template in it counts, whatever it is called.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from kube.api import Object

POD_KINDS: Final = frozenset({"ReplicaSet", "ReplicationController", "Deployment", "DaemonSet", "StatefulSet", "Job"})
NO_WORKLOADS: Final = frozenset({"DynamoCheckpoint"})
"""Kinds with a pod template whose pods are not workers: capture pods start cold, that is what they are for."""
_INDEX_KEY: Final = "batch.kubernetes.io/job-completion-index"


class Candidate(NamedTuple):
    """A pod that would be created, and what it is made from."""

    origin: str
    """``Kind/name``, and the path of the template if an object has several."""
    pod: Object


def candidates(obj: Mapping[str, Any]) -> list[Candidate]:
    """Build the pods of one object, without a namespace of their own; none if it has no pod template."""
    kind = str(obj.get("kind", ""))
    origin = f"{kind}/{name_of(obj)}"
    if kind == "Pod":
        return [Candidate(origin, _bare(obj))]
    if kind in NO_WORKLOADS:
        return []
    if kind == "CronJob":
        spec = _part(_part(_part(obj, "spec"), "jobTemplate"), "spec")
        return [Candidate(origin, _job_pod(name_of(obj), spec))] if _is_template(spec.get("template")) else []
    template = _part(obj, "spec").get("template")
    if kind in POD_KINDS and _is_template(template):
        return [Candidate(origin, _known(kind, name_of(obj), obj["spec"]))]
    found = list(_templates(obj, ""))
    return [
        Candidate(origin if len(found) == 1 else f"{origin} {path}", _pod(kind, name_of(obj), each))
        for path, each in found
    ]


def name_of(obj: Mapping[str, Any]) -> str:
    """Return the object's name, or what it would begin with."""
    metadata = _part(obj, "metadata")
    return str(metadata.get("name") or metadata.get("generateName") or "")


def _bare(obj: Mapping[str, Any]) -> Object:
    pod: Object = copy.deepcopy(dict(obj))
    pod.pop("status", None)
    return pod


def _known(kind: str, name: str, spec: Mapping[str, Any]) -> Object:
    if kind == "Job":
        return _job_pod(name, spec)
    if kind == "Deployment":
        # The owner that a pod of a Deployment names.
        return _pod("ReplicaSet", f"{name}-0", spec["template"])
    pod = _pod(kind, name, spec["template"])
    if kind == "StatefulSet":
        _make_stateful(pod, name, spec)
    return pod


def _pod(kind: str, name: str, template: Mapping[str, Any]) -> Object:
    metadata = copy.deepcopy(dict(_part(template, "metadata")))
    metadata.pop("creationTimestamp", None)
    metadata.pop("name", None)
    metadata["generateName"] = f"{name}-"
    metadata["ownerReferences"] = [{"kind": kind, "name": name, "controller": True}]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": copy.deepcopy(template["spec"])}


def _make_stateful(pod: Object, name: str, spec: Mapping[str, Any]) -> None:
    """Add what the StatefulSet controller adds: a name that lasts, and the volumes of its claim templates."""
    first = f"{name}-0"
    metadata = pod["metadata"]
    metadata["name"] = first
    own = {"apps.kubernetes.io/pod-index": "0", "statefulset.kubernetes.io/pod-name": first}
    metadata["labels"] = {**_part(metadata, "labels"), **own}
    pod["spec"]["hostname"] = first
    if spec.get("serviceName"):
        pod["spec"]["subdomain"] = spec["serviceName"]
    claims = [name_of(claim) for claim in _objects(spec.get("volumeClaimTemplates"))]
    volumes = [each for each in _objects(pod["spec"].get("volumes")) if each.get("name") not in claims]
    made = [{"name": claim, "persistentVolumeClaim": {"claimName": f"{claim}-{first}"}} for claim in claims]
    if made or volumes:
        pod["spec"]["volumes"] = [*made, *volumes]


def _job_pod(name: str, spec: Mapping[str, Any]) -> Object:
    pod = _pod("Job", name, spec["template"])
    metadata = pod["metadata"]
    metadata["labels"] = {**_part(metadata, "labels"), "batch.kubernetes.io/job-name": name, "job-name": name}
    if spec.get("completionMode") == "Indexed":
        metadata["labels"][_INDEX_KEY] = "0"
        metadata["annotations"] = {**_part(metadata, "annotations"), _INDEX_KEY: "0"}
        source = {"fieldRef": {"apiVersion": "v1", "fieldPath": f"metadata.labels['{_INDEX_KEY}']"}}
        for container in _objects(pod["spec"].get("containers")):
            entry = {"name": "JOB_COMPLETION_INDEX", "valueFrom": source}
            container["env"] = [*_objects(container.get("env")), entry]
    return pod


def _part(obj: Any, field: str) -> Mapping[str, Any]:  # noqa: ANN401 - any YAML value
    """Return an object within an object; empty if there is none, or something else."""
    found = obj.get(field) if isinstance(obj, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def _objects(items: Any) -> list[Any]:  # noqa: ANN401 - any YAML value
    """Keep the objects of a list; what is no object would be refused anyway."""
    return [each for each in items if isinstance(each, Mapping)] if isinstance(items, list) else []


def _templates(node: Any, path: str) -> Iterator[tuple[str, Mapping[str, Any]]]:  # noqa: ANN401 - any YAML value
    """Find pod templates anywhere in an object, with their paths."""
    if isinstance(node, list):
        for index, item in enumerate(node):
            yield from _templates(item, f"{path}[{index}]")
    elif isinstance(node, Mapping):
        if path and _is_template(node):
            yield path, node
            return
        for key, value in node.items():
            if key != "status":
                yield from _templates(value, f"{path}.{key}".removeprefix("."))


def _is_template(node: Any) -> bool:  # noqa: ANN401 - any YAML value
    spec = node.get("spec") if isinstance(node, Mapping) else None
    containers = spec.get("containers") if isinstance(spec, Mapping) else None
    return isinstance(containers, list) and all(isinstance(each, Mapping) for each in containers)
