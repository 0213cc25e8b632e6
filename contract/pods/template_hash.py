"""Automatic checkpoints: what of a pod makes the memory of its worker, as one hash.

Pods whose workers come to the same memory share one checkpoint, so the hash takes in what a process reads at its
start: image, command line, environment, names of what it refers to, resources, mounts, its user, and the annotations
by which people ask for a restart. It leaves out what differs from replica to replica. The API server fills in
defaults and adds a token volume, and other webhooks rename volumes; none of that may make a second checkpoint. So
everything is brought to one form first, in which a pod and the template it was made from are the same.
"""

from __future__ import annotations

import hashlib
import json
import re
from fractions import Fraction
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from contract.api import checkpoint as ckpt
from contract.api import keys
from contract.pods.capture_metadata import GENERATED_LABELS, label_field
from contract.pods.systems import only_architecture

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

Json = dict[str, Any]

HASH_LENGTH: Final = 32
NAME_PREFIX: Final = "checkpoint-"
RESTART_ANNOTATION: Final = "kubectl.kubernetes.io/restartedAt"
OWNERS_WORDS: Final = frozenset({keys.ANN_WRITABLE_MOUNTS, keys.ANN_CANARY, keys.ANN_DEVICE_MEMORY, keys.ANN_WEIGHTS})
"""Annotations of ours by which a workload's owner says how it is captured."""
_OWN: Final = OWNERS_WORDS | {RESTART_ANNOTATION}
"""Annotations whose change asks for another checkpoint."""
CHECKSUM_PREFIX: Final = "checksum/"
"""Charts write checksums of their configuration into annotations of this prefix, so that a change rolls the pods."""

TOKEN_VOLUME_PREFIX: Final = "kube-api-access-"  # noqa: S105 - the name of a volume
"""Added to each pod at admission, with a random name."""
GROUP_ENVIRONMENT: Final = frozenset({"LWS_LEADER_ADDRESS", "LWS_WORKER_INDEX"})
"""Written into pods by LeaderWorkerSet: other values in each group or pod of one template."""
OUR_ENVIRONMENT: Final = frozenset(
    {
        keys.ENV_RESTORE_STANDBY,
        keys.ENV_STANDBY_ID,
        keys.ENV_STANDBY_POLICY,
        keys.ENV_STANDBY_RESTART_POLICY,
        keys.ENV_DEVICE_MEMORY,
        keys.ENV_CANARY,
        keys.ENV_PROBE,
        keys.ENV_CHECKPOINT_STORAGE_TYPE,
        keys.ENV_CHECKPOINT_LOCATION,
        keys.ENV_CHECKPOINT_PATH,
        keys.ENV_CHECKPOINT_HASH,
        keys.ENV_CHECKPOINT_SIGNAL_FILE,
    }
)
"""Environment that shaping writes; it follows from the checkpoint, so it cannot decide which one that is."""
OUR_VOLUMES: Final = frozenset({keys.CONTROL_VOLUME, keys.STORAGE_VOLUME, keys.SHARED_MEMORY_VOLUME, keys.TOOLS_VOLUME})

_IDENTITY_FIELDS: Final = frozenset(
    {
        "metadata.name",
        "metadata.uid",
        "spec.nodeName",
        "status.hostIP",
        "status.hostIPs",
        "status.podIP",
        "status.podIPs",
    }
)
_INDEX_FIELDS: Final = (
    "['apps.kubernetes.io/pod-index']",
    "['batch.kubernetes.io/job-completion-index']",
    "['leaderworkerset.sigs.k8s.io/worker-index']",
    "['leaderworkerset.sigs.k8s.io/group-index']",
    "['leaderworkerset.sigs.k8s.io/group-key']",
    "['leaderworkerset.sigs.k8s.io/subgroup-index']",
    "['statefulset.kubernetes.io/pod-name']",
    "['jobset.sigs.k8s.io/job-index']",
    "['jobset.sigs.k8s.io/job-global-index']",
    "['jobset.sigs.k8s.io/job-key']",
    "['training.kubeflow.org/replica-index']",
    "['volcano.sh/task-index']",
    "['grove.io/podclique-pod-index']",
)
"""Labels and annotations that controllers write into each pod with another value."""
_DEFAULTS: Final[dict[str, Any]] = {
    "apiVersion": "v1",
    "defaultMode": 420,
    "expirationSeconds": 3600,
    "optional": False,
    "procMount": "Default",
    "readOnly": False,
}
"""Fields that the API server sets to this value where a template leaves them out."""
_ENCODER: Final = json.JSONEncoder(sort_keys=True, separators=(",", ":"))
_QUANTITIES: Final = 1024
_QUANTITY: Final = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?")
_SCALE: Final = {
    "m": Fraction(1, 1000),
    **{unit: Fraction(1000**power) for power, unit in enumerate(("", "k", "M", "G", "T", "P", "E"))},
    **{f"{unit}i": Fraction(1024**power) for power, unit in enumerate(("K", "M", "G", "T", "P", "E"), 1)},
}


def template_hash(pod: Mapping[str, Any], target: str, more: Iterable[str] = ()) -> str:
    """Hash what the memory of the target's worker follows from: 32 hex digits, empty if the pod lacks the target.

    Args:
        pod: a pod, or a pod template.
        target: name of the container.
        more: keys of further annotations whose change makes another checkpoint.
    """
    container = ckpt.find_container(pod.get("spec") or {}, target)
    return "" if container is None else worker_hash(pod, container, more)


def worker_hash(pod: Mapping[str, Any], container: Mapping[str, Any], more: Iterable[str] = ()) -> str:
    """Hash the same for a target that was found already."""
    spec = pod.get("spec") or {}
    parts = {
        "image": container.get("image"),
        "command": container.get("command"),
        "args": container.get("args"),
        "workingDir": container.get("workingDir"),
        "env": [_plain(entry) for entry in container.get("env") or () if not _is_ours(entry)],
        "labels": _referred_labels(pod, container),
        "envFrom": [_plain(source) for source in container.get("envFrom") or ()],
        "resources": _resources(container.get("resources") or {}),
        "mounts": list(_mounts(pod, spec, container)),
        "security": _plain(container.get("securityContext")),
        # Shaping sets the pod's seccomp profile itself.
        "podSecurity": _plain(_without(spec.get("securityContext"), "seccompProfile")),
        "serviceAccount": spec.get("serviceAccountName") or spec.get("serviceAccount") or "default",
        # One image may be of several architectures, and what was captured of one starts on no other.
        "architecture": only_architecture(spec),
        "annotations": _annotations(ckpt.annotations_of(pod), frozenset(more)),
    }
    # A part that is absent and one that is empty are the same, to the API server and here.
    text = _ENCODER.encode({key: part for key, part in parts.items() if part})
    return hashlib.sha256(text.encode()).hexdigest()[:HASH_LENGTH]


def automatic_id(namespace: str, stamp: str) -> str:
    """Return the automatic checkpoint's id for a template hash; artifacts are never shared between namespaces."""
    return hashlib.sha256(f"{namespace}\0{stamp}".encode()).hexdigest()[:HASH_LENGTH]


def automatic_name(checkpoint_id: str) -> str:
    """Return the name of the DynamoCheckpoint of that id, so that no race can make two."""
    return NAME_PREFIX + checkpoint_id


def automatic_target(pod: Mapping[str, Any]) -> str:
    """Return the container that an automatic checkpoint captures.

    Raises:
        TargetError: if it cannot be determined, or more than one is named.
    """
    return only_target(ckpt.find_targets(pod)).name


def only_target(targets: Sequence[ckpt.Target]) -> ckpt.Target:
    """Return the one target of a pod.

    Raises:
        TargetError: if it has more.
    """
    if len(targets) > 1:
        raise ckpt.TargetError(
            f"annotation {keys.ANN_TARGET_CONTAINERS} names {len(targets)} containers, an automatic checkpoint is "
            "taken of one; name that one, or make a DynamoCheckpoint and restore by name"
        )
    return targets[0]


def per_pod_identity(pod: Mapping[str, Any], container: Mapping[str, Any]) -> str | None:
    """Return the path of the field that gives each replica's worker an identity of its own; None if all are alike.

    A worker keeps such an identity in its memory, so the replicas restored from it would all claim to be the captured
    one.
    """
    spec = pod.get("spec") or {}
    for entry in container.get("env") or ():
        if field := _identity_field((entry.get("valueFrom") or {}).get("fieldRef")):
            return f"spec.containers[{container.get('name')}].env[{entry.get('name')}].valueFrom.fieldRef: {field}"
    mounted = {mount.get("name") for mount in container.get("volumeMounts") or ()}
    for volume in spec.get("volumes") or ():
        if volume.get("name") in mounted and (found := _downward_identity(volume)):
            return f"spec.volumes[{volume.get('name')}].{found}"
    for owner in (pod.get("metadata") or {}).get("ownerReferences") or ():
        if owner.get("kind") == "StatefulSet":
            return f"metadata.ownerReferences: StatefulSet {owner.get('name')}"
    return None


def _identity_field(reference: Mapping[str, Any] | None) -> str | None:
    field = str((reference or {}).get("fieldPath", ""))
    return field if field in _IDENTITY_FIELDS or field.endswith(_INDEX_FIELDS) else None


def _downward_identity(volume: Mapping[str, Any]) -> str | None:
    sources = [("downwardAPI", volume.get("downwardAPI"))]
    for index, source in enumerate((volume.get("projected") or {}).get("sources") or ()):
        sources.append((f"projected.sources[{index}].downwardAPI", source.get("downwardAPI")))
    for path, files in sources:
        for item in (files or {}).get("items") or ():
            if field := _identity_field(item.get("fieldRef")):
                return f"{path}.items[{item.get('path')}].fieldRef: {field}"
    return None


def _is_ours(entry: Mapping[str, Any]) -> bool:
    name = entry.get("name")
    if name == keys.ENV_CONTROL_DIR:
        # A directory of the user's own is in the worker's memory; ours is what the absence of one means.
        return entry.get("value") == keys.CONTROL_DIR
    return name in OUR_ENVIRONMENT or name in GROUP_ENVIRONMENT


def _mounts(pod: Mapping[str, Any], spec: Mapping[str, Any], container: Mapping[str, Any]) -> Iterator[Json]:
    """Return each mount with its volume in place of the volume's name, which others may generate."""
    volumes = {volume.get("name"): volume for volume in spec.get("volumes") or ()}
    for kind in ("volumeMounts", "volumeDevices"):
        for mount in container.get(kind) or ():
            name = str(mount.get("name", ""))
            if name not in OUR_VOLUMES and not name.startswith(TOKEN_VOLUME_PREFIX):
                yield {**_plain(_without(mount, "name")), "volume": _volume(pod, volumes.get(name))}


def _referred_labels(pod: Mapping[str, Any], container: Mapping[str, Any]) -> Json:
    """Return the labels that the environment takes values from: pods with others have another environment."""
    labels = ckpt.labels_of(pod)
    paths = {
        ((entry.get("valueFrom") or {}).get("fieldRef") or {}).get("fieldPath") for entry in container.get("env") or ()
    }
    return {key: value for key, value in labels.items() if label_field(key) in paths and key not in GENERATED_LABELS}


def _volume(pod: Mapping[str, Any], volume: Mapping[str, Any] | None) -> Json:
    name = (volume or {}).get("name")
    definition = {kind: _plain(said) for kind, said in _without(volume, "name").items() if said is not None}
    claim = (definition.get("persistentVolumeClaim") or {}).get("claimName")
    if claim and claim == f"{name}-{(pod.get('metadata') or {}).get('name')}":
        # A StatefulSet's own claim for this replica; the template has no such volume.
        return {}
    if limit := (definition.get("emptyDir") or {}).get("sizeLimit"):
        definition["emptyDir"]["sizeLimit"] = _amount(limit)
    return definition


def _resources(resources: Mapping[str, Any]) -> Json:
    limits = {name: _amount(amount) for name, amount in (resources.get("limits") or {}).items()}
    requests = {name: _amount(amount) for name, amount in (resources.get("requests") or {}).items()}
    # The API server does the same for pods, but not for templates.
    found = {"limits": limits, "requests": limits | requests, "claims": _plain(resources.get("claims"))}
    return {key: value for key, value in found.items() if value}


def _amount(quantity: Any) -> str:  # noqa: ANN401 - text or a number
    return _spelled(str(quantity))


@lru_cache(_QUANTITIES)
def _spelled(quantity: str) -> str:
    """Return one spelling for all that mean the same amount: ``1000m``, ``1`` and ``1.0``."""
    match = _QUANTITY.fullmatch(quantity)
    return str(Fraction(match[1]) * _SCALE[match[2] or ""]) if match else quantity


def _annotations(annotations: Mapping[str, str], more: frozenset[str]) -> Json:
    return {
        key: value
        for key, value in annotations.items()
        if key in _OWN or key.startswith(CHECKSUM_PREFIX) or key in more
    }


def _plain(value: Any) -> Any:  # noqa: ANN401 - any part of an object
    """Without what says no more than its absence."""
    if isinstance(value, dict):
        found = {key: _plain(item) for key, item in value.items() if not _says_nothing(key, item)}
        return {key: item for key, item in found.items() if item not in ({}, [])}
    return [_plain(item) for item in value] if isinstance(value, list) else value


def _says_nothing(key: str, value: Any) -> bool:  # noqa: ANN401 - any part of an object
    if value is None or value == "":
        return True
    return key in _DEFAULTS and value == _DEFAULTS[key] and type(value) is type(_DEFAULTS[key])


def _without(mapping: Mapping[str, Any] | None, key: str) -> Json:
    return {name: value for name, value in (mapping or {}).items() if name != key}
