"""Whether an object has the form of a pod, as far as admission reads it.

The API server sends only what it has parsed as a pod, so this is asked only once something could not be read: the
answer then names the field, and what is left is a bug of ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

Shape = Any
"""A type; a dict of fields, others are free; a list of one shape; ``TEXTS``."""

TEXTS: Final = "map of text"
_ANY_OBJECT: Final[dict[str, Shape]] = {}

_FIELD_REF: Final = {"fieldRef": {"fieldPath": str}}
_FILES: Final = {"items": [{"path": str, **_FIELD_REF}]}
_PROBE: Final = {
    "initialDelaySeconds": int,
    "periodSeconds": int,
    "failureThreshold": int,
    "timeoutSeconds": int,
    "exec": {"command": [str]},
    "httpGet": _ANY_OBJECT,
}
_TERM: Final = {"matchExpressions": [_ANY_OBJECT]}
_NODE_AFFINITY: Final = {
    "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [_TERM]},
    "preferredDuringSchedulingIgnoredDuringExecution": [_ANY_OBJECT],
}
_CONTAINER: Final = {
    "name": str,
    "image": str,
    "command": [str],
    "args": [str],
    "env": [{"name": str, "value": str, "valueFrom": _FIELD_REF}],
    "envFrom": [_ANY_OBJECT],
    "resources": {"limits": _ANY_OBJECT, "requests": _ANY_OBJECT, "claims": [_ANY_OBJECT]},
    "volumeMounts": [{"name": str, "mountPath": str}],
    "volumeDevices": [{"name": str}],
    "securityContext": _ANY_OBJECT,
    "startupProbe": _PROBE,
    "readinessProbe": _PROBE,
    "livenessProbe": _PROBE,
}
_VOLUME: Final = {
    "name": str,
    "emptyDir": _ANY_OBJECT,
    "persistentVolumeClaim": {"claimName": str},
    "downwardAPI": _FILES,
    "projected": {"sources": [{"downwardAPI": _FILES}]},
}
_METADATA: Final = {
    "name": str,
    "namespace": str,
    "labels": TEXTS,
    "annotations": TEXTS,
    "ownerReferences": [{"kind": str, "name": str}],
    "managedFields": [{"fieldsV1": {"f:metadata": {"f:annotations": _ANY_OBJECT}}}],
}
_SPEC: Final = {
    "containers": [_CONTAINER],
    "initContainers": [{"name": str}],
    "volumes": [_VOLUME],
    "imagePullSecrets": [{"name": str}],
    "schedulingGates": [{"name": str}],
    "securityContext": _ANY_OBJECT,
    "affinity": {"nodeAffinity": _NODE_AFFINITY},
    "os": {"name": str},
    "runtimeClassName": str,
    "nodeSelector": TEXTS,
    "nodeName": str,
    "restartPolicy": str,
    "serviceAccountName": str,
    "serviceAccount": str,
}
_WORDS: Final = {str: "text", int: "a whole number"}


def malformed(pod: object) -> str | None:
    """Say why ``pod`` cannot be a pod; None if it has the form of one."""
    if not isinstance(pod, Mapping):
        return "object is missing"
    for field, shape in (("metadata", _METADATA), ("spec", _SPEC)):
        if not isinstance(pod.get(field), Mapping):
            return f"{field} must be an object"
        if problem := _misfit(pod[field], shape, field):
            return problem
    for index, container in enumerate(pod["spec"].get("containers") or ()):
        if not container.get("name"):
            return f"spec.containers[{index}].name must not be empty"
    return None


def _misfit(value: object, shape: Shape, path: str) -> str | None:
    """Name what of ``value`` does not fit; null is the same as absent, but not within a list."""
    if value is None:
        return None
    if shape is TEXTS:
        fits = isinstance(value, Mapping) and all(isinstance(text, str) for text in value.values())
        return None if fits else f"{path} must map text to text"
    if isinstance(shape, list):
        return _misfit_in_list(value, shape[0], path)
    if isinstance(shape, dict):
        return _misfit_in_fields(value, shape, path)
    fits = isinstance(value, shape) and not isinstance(value, bool)
    return None if fits else f"{path} must be {_WORDS[shape]}"


def _misfit_in_list(value: object, shape: Shape, path: str) -> str | None:
    kind = "objects" if isinstance(shape, dict) else "texts"
    if not isinstance(value, list) or None in value:
        return f"{path} must be a list of {kind}"
    problems = (_misfit(item, shape, f"{path}[{index}]") for index, item in enumerate(value))
    return next(filter(None, problems), None)


def _misfit_in_fields(value: object, fields: Mapping[str, Shape], path: str) -> str | None:
    if not isinstance(value, Mapping):
        return f"{path} must be an object"
    problems = (_misfit(value.get(name), shape, f"{path}.{name}") for name, shape in fields.items())
    return next(filter(None, problems), None)
