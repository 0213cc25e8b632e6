"""From a workload's template, or from a pod, to the template of an automatic checkpoint.

A pod holds more than its author wrote: the API server's defaults, the token volume, what controllers put into each
replica, what meshes inject, what the webhook shaped. All of that is taken out, because the capture pod passes
admission by itself; what is left is what the author could have written.
"""

import copy
from collections.abc import Iterable, Mapping
from typing import Any, Final

from contract.api import control_files, keys
from contract.api.checkpoint import annotations_of, labels_of
from contract.pods.capture_job import MESH_CONTAINERS
from contract.pods.capture_metadata import GENERATED_LABELS
from contract.pods.common import own_command
from contract.pods.startup_gate import is_gate
from contract.pods.template_hash import GROUP_ENVIRONMENT, OUR_ENVIRONMENT, OWNERS_WORDS, TOKEN_VOLUME_PREFIX
from kube.api import Object

ADDED_FIELDS: Final = (
    "nodeName",
    "schedulingGates",
    "priority",
    "preemptionPolicy",
    "overhead",
    "serviceAccount",
    "ephemeralContainers",
)
"""Written by admission, the scheduler or ``kubectl debug``; with some of them a pod would be refused."""
DEFAULTS: Final[Mapping[str, Any]] = {
    "dnsPolicy": "ClusterFirst",
    "enableServiceLinks": True,
    "restartPolicy": "Always",
    "schedulerName": "default-scheduler",
    "securityContext": {},
    "serviceAccountName": "default",
    "terminationGracePeriodSeconds": 30,
}
CONTAINER_DEFAULTS: Final[Mapping[str, Any]] = {
    "resources": {},
    "terminationMessagePath": "/dev/termination-log",
    "terminationMessagePolicy": "File",
}
PER_REPLICA_OWNERS: Final = frozenset({"StatefulSet", "Job"})
"""Give each replica a host name of its own."""
MESH_LABELS: Final = ("security.istio.io/", "service.istio.io/", "linkerd.io/control-plane-ns", "linkerd.io/proxy-")
POD_ANNOTATIONS: Final = (
    "kubectl.kubernetes.io/last-applied-configuration",
    "kubernetes.io/limit-ranger",
    "kubernetes.io/config.",
    "batch.kubernetes.io/",
    "leaderworkerset.sigs.k8s.io/",
    "sidecar.istio.io/status",
    "istio.io/rev",
    "linkerd.io/proxy-version",
    "linkerd.io/trust-root-sha256",
    "k8s.v1.cni.cncf.io/network-status",
    "cni.projectcalico.org/",
    "k8s.ovn.org/",
    "nvidia.com/snapshot-",
    "nvidia.com/dynamo-checkpoint-",
    keys.ANN_RESTORE_FROM,
)
"""Keys, or beginnings of keys, that speak of one pod and not of its kind."""
_GENERATED_TOLERATIONS: Final = frozenset({"node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"})
_GENERATED_SECONDS: Final = 300
_OUR_VOLUMES: Final = frozenset({keys.CONTROL_VOLUME, keys.STORAGE_VOLUME, keys.TOOLS_VOLUME})
_GROUP_LABEL: Final = "leaderworkerset.sigs.k8s.io/"


def template_of(pod: Object) -> Object:
    """Return the template of a pod, or of what has ``metadata`` and ``spec`` like one; the argument stays as it is."""
    spec = copy.deepcopy(pod["spec"])
    _unshape(pod, spec)
    _without_replica(pod, spec)
    _without_admission(spec)
    metadata = {"labels": _labels(pod), "annotations": _annotations(pod)}
    found: Object = {"spec": spec}
    return {"metadata": {key: value for key, value in metadata.items() if value}} | found


def _labels(pod: Object) -> dict[str, str]:
    dropped = (keys.LABEL_RESTORE, keys.LABEL_CHECKPOINT_ID, keys.LABEL_IS_RESTORE_TARGET, keys.LABEL_IS_SOURCE)
    return {
        key: value
        for key, value in labels_of(pod).items()
        if key not in dropped and key not in GENERATED_LABELS and not key.startswith((_GROUP_LABEL, *MESH_LABELS))
    }


def _annotations(pod: Object) -> dict[str, str]:
    return {
        key: value
        for key, value in annotations_of(pod).items()
        if key in OWNERS_WORDS or not key.startswith(POD_ANNOTATIONS)
    }


def _unshape(pod: Object, spec: Object) -> None:
    """Take out what the webhook put in: the capture Job is shaped in its own way."""
    spec["initContainers"] = [
        each for each in spec.get("initContainers") or () if each.get("name") != keys.TOOLS_VOLUME
    ]
    for container in _containers(spec):
        _unshape_container(container)
        was = annotations_of(pod).get(keys.ANN_ORIGINAL_IMAGE_PREFIX + str(container.get("name", "")))
        if was:
            container["image"] = was
    spec["volumes"] = [each for each in spec.get("volumes") or () if each.get("name") not in _OUR_VOLUMES]


def _unshape_container(container: Object) -> None:
    container["command"] = own_command(container.get("command") or ())
    container["env"] = [each for each in container.get("env") or () if each.get("name") not in OUR_ENVIRONMENT]
    container["volumeMounts"] = [
        each for each in container.get("volumeMounts") or () if each.get("name") not in _OUR_VOLUMES
    ]
    gate = ((container.get("startupProbe") or {}).get("exec") or {}).get("command") or []
    if gate and (is_gate(container["startupProbe"]) or str(gate[-1]).endswith("/" + control_files.RESTORE_COMPLETE)):
        # Nothing would ever open it in a capture pod.
        del container["startupProbe"]


def _without_replica(pod: Object, spec: Object) -> None:
    """Take out what makes a replica this one: host name, claims of its own, its place in a group."""
    name = str(pod.get("metadata", {}).get("name", ""))
    owners: Iterable[Object] = pod.get("metadata", {}).get("ownerReferences") or ()
    if any(owner.get("kind") in PER_REPLICA_OWNERS for owner in owners):
        spec.pop("hostname", None)
        spec.pop("subdomain", None)
    for volume in spec["volumes"]:
        claim = (volume.get("persistentVolumeClaim") or {}).get("claimName")
        if claim and claim == f"{volume.get('name')}-{name}":
            # A replica's own data: a capture must not write there, and could not even start beside it.
            del volume["persistentVolumeClaim"]
            volume["emptyDir"] = {}
    for container in _containers(spec):
        container["env"] = [each for each in container["env"] if each.get("name") not in GROUP_ENVIRONMENT]


def _without_admission(spec: Object) -> None:
    before = _mounted(spec)
    for field in ("containers", "initContainers"):
        spec[field] = [each for each in spec.get(field) or () if each.get("name") not in MESH_CONTAINERS]
    for container in _containers(spec):
        _without_defaults(container, CONTAINER_DEFAULTS)
        mounts = container["volumeMounts"]
        container["volumeMounts"] = [m for m in mounts if not str(m.get("name", "")).startswith(TOKEN_VOLUME_PREFIX)]
    # What only the containers taken out have mounted goes with them.
    orphaned = before - _mounted(spec)
    spec["volumes"] = [
        each
        for each in spec["volumes"]
        if each.get("name") not in orphaned and not str(each.get("name", "")).startswith(TOKEN_VOLUME_PREFIX)
    ]
    spec["tolerations"] = [each for each in spec.get("tolerations") or () if not _generated(each)]
    for field in ADDED_FIELDS:
        spec.pop(field, None)
    _without_defaults(spec, DEFAULTS)
    _without_empty(spec)


def _generated(toleration: Object) -> bool:
    return (
        toleration.get("key") in _GENERATED_TOLERATIONS
        and toleration.get("operator") == "Exists"
        and toleration.get("effect") == "NoExecute"
        and toleration.get("tolerationSeconds") == _GENERATED_SECONDS
    )


def _without_defaults(obj: Object, defaults: Mapping[str, Any]) -> None:
    for field, value in defaults.items():
        if field in obj and obj[field] == value:
            del obj[field]


def _without_empty(spec: Object) -> None:
    for owner in (spec, *_containers(spec)):
        for field in ("command", "env", "volumeMounts", "volumes", "initContainers", "tolerations"):
            if owner.get(field) == []:
                del owner[field]


def _containers(spec: Object) -> list[Object]:
    return [*(spec.get("containers") or ()), *(spec.get("initContainers") or ())]


def _mounted(spec: Object) -> set[str]:
    return {str(m.get("name", "")) for each in _containers(spec) for m in each.get("volumeMounts") or ()}
