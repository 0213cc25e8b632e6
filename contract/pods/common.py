"""Parts that capture pods and restored pods have in common: what they may not be, and what both get.

A captured process comes back only into surroundings like those it left, so both shapes take these from one place.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from contract.api import keys
from contract.pods.systems import sandboxed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Json = dict[str, Any]

_REQUIRED: Final = "requiredDuringSchedulingIgnoredDuringExecution"
_PREFERRED: Final = "preferredDuringSchedulingIgnoredDuringExecution"
_ON_READY_NODE: Final = {"key": keys.LABEL_NODE_READY, "operator": "In", "values": [keys.NODE_READY_VALUE]}
_PREFERENCE: Final[Json] = {"weight": 100, "preference": {"matchExpressions": [_ON_READY_NODE]}}
HOST_NAMESPACES: Final = (
    ("hostPID", "the processes of the node would be part of the checkpoint"),
    ("hostNetwork", "the node's sockets and addresses cannot be restored elsewhere"),
    ("hostIPC", "the node's shared memory would be part of the checkpoint"),
    ("shareProcessNamespace", "process ids of the other containers would collide on restore"),
)


def unsupported(spec: Mapping[str, Any]) -> tuple[str, str] | None:
    """Say why a pod of this spec can be neither captured nor restored: the field below ``spec`` and the reason."""
    for field, reason in HOST_NAMESPACES:
        if spec.get(field):
            return field, f"must not be true: {reason}; remove it"
    if spec.get("hostUsers") is False:
        return "hostUsers", "must not be false: users of a namespace of the pod's own cannot be restored; remove it"
    return sandboxed(spec)


def control_dir(container: Mapping[str, Any]) -> str:
    """Return the container's control directory: its own environment's word if it has one."""
    for entry in container.get("env") or ():
        if entry.get("name") == keys.ENV_CONTROL_DIR and entry.get("value"):
            return str(entry["value"])
    return keys.CONTROL_DIR


def runs_standby(container: Mapping[str, Any], mode: str) -> bool:
    """Say whether a container's command is standby in this mode. No update of a pod can change it."""
    return list(container.get("command") or ())[:2] == [keys.STANDBY, mode]


def ending(pod: Mapping[str, Any]) -> str | None:
    """Say that a pod is being deleted, or has ended; None if it lives."""
    phase = (pod.get("status") or {}).get("phase") or "Pending"
    if pod["metadata"].get("deletionTimestamp"):
        return f"pod {pod['metadata'].get('name')} is being deleted"
    return None if phase in ("Pending", "Running") else f"pod {pod['metadata'].get('name')} is {phase}"


def own_command(command: Sequence[str]) -> list[str]:
    """Return a container's command without standby, which goes before it in mutated pods and capture pods.

    Empty if it has none of its own, or standby runs what the image says.
    """
    if not command or command[0] != keys.STANDBY:
        return list(command)
    before, own = list(command), []
    if "--" in before:
        place = before.index("--")
        before, own = before[:place], before[place + 1 :]
    return [] if keys.STANDBY_IMAGE_ENTRYPOINT in before else own


def has_named(items: Any, name: str) -> bool:  # noqa: ANN401 - a list of a raw object, or nothing
    """Say whether a list of Kubernetes objects holds one of that name."""
    for item in items or ():  # noqa: SIM110 - asked many times a request; a generator costs more than the search
        if item.get("name") == name:
            return True
    return False


def control_mount(container: Mapping[str, Any]) -> Json:
    """Return the mount of the container's own folder in the control volume."""
    return {"name": keys.CONTROL_VOLUME, "mountPath": control_dir(container), "subPath": container["name"]}


def control_volume() -> Json:
    """Return the volume that holds the control directories."""
    return {"name": keys.CONTROL_VOLUME, "emptyDir": {}}


def storage_volume(claim: str) -> Json:
    """Return the checkpoint volume."""
    return {"name": keys.STORAGE_VOLUME, "persistentVolumeClaim": {"claimName": claim}}


def shared_memory_volume(size: str) -> Json:
    """Return the memory-backed volume for /dev/shm; ``size`` empty: no limit."""
    medium: Json = {"medium": "Memory"}
    return {"name": keys.SHARED_MEMORY_VOLUME, "emptyDir": medium | ({"sizeLimit": size} if size else {})}


def mounted_at(container: Mapping[str, Any], path: str) -> Json | None:
    """Return the container's mount at exactly this path."""
    wanted = path.rstrip("/")
    mounts = container.get("volumeMounts") or ()
    for mount in mounts:
        if str(mount.get("mountPath", "")).rstrip("/") == wanted:
            found: Json = mount
            return found
    return None


class MountTakenError(ValueError):
    """A mount path that a shape needs belongs to another volume of the pod."""


def check_mount(container: Mapping[str, Any], mount: Mapping[str, Any]) -> None:
    """Check that ``mount`` can be added: the API server refuses a pod with two mounts at one path.

    Raises:
        MountTakenError: where another volume is mounted there.
    """
    there = mounted_at(container, mount["mountPath"])
    if there is not None and there.get("name") != mount["name"]:
        raise MountTakenError(
            f"container {container.get('name')!r} mounts volume {there.get('name')!r} at {mount['mountPath']}, "
            f"where volume {mount['name']!r} belongs; move it to another path"
        )


def memory_volume_size(spec: Mapping[str, Any], container: Mapping[str, Any]) -> str | None:
    """Size of the memory volume that the container mounts at /dev/shm; empty: no limit, None: it mounts none."""
    mount = mounted_at(container, keys.SHARED_MEMORY_DIR)
    if mount is None:
        return None
    volume: Json = next((v for v in spec.get("volumes") or () if v.get("name") == mount.get("name")), {})
    medium = volume.get("emptyDir") or {}
    return str(medium.get("sizeLimit") or "") if medium.get("medium") == "Memory" else None


def on_ready_nodes(affinity: Mapping[str, Any] | None, mode: str) -> Json:
    """Return ``affinity`` and, as ``mode`` says, a term for nodes with a ready agent; the same if it is there already.

    Args:
        affinity: a pod's affinity, left as it is.
        mode: ``Required``, ``Preferred`` or ``None``.
    """
    result = dict(affinity or {})
    if mode == "None":
        return result
    node = dict(result.get("nodeAffinity") or {})
    if mode == "Required":
        node[_REQUIRED] = _required(node, _ON_READY_NODE)
    else:
        node[_PREFERRED] = _preferred(node)
    result["nodeAffinity"] = node
    return result


def off_ready_nodes(affinity: Mapping[str, Any] | None) -> Json:
    """Return an affinity without our term for nodes with a ready agent; empty if nothing else is left."""
    result = dict(affinity or {})
    node = dict(result.pop("nodeAffinity", None) or {})
    if required := dict(node.pop(_REQUIRED, None) or {}):
        terms = [_without_expression(term) for term in required.get("nodeSelectorTerms") or ()]
        if any(terms):
            node[_REQUIRED] = {**required, "nodeSelectorTerms": terms}
    if preferred := [each for each in node.pop(_PREFERRED, None) or () if each != _PREFERENCE]:
        node[_PREFERRED] = preferred
    return result | ({"nodeAffinity": node} if node else {})


def _without_expression(term: Mapping[str, Any]) -> Json:
    kept = [each for each in term.get("matchExpressions") or () if each != _ON_READY_NODE]
    rest = {key: value for key, value in term.items() if key != "matchExpressions"}
    return rest | ({"matchExpressions": kept} if kept else {})


def _required(node: Mapping[str, Any], expression: Json) -> Json:
    required = node.get(_REQUIRED) or {}
    # Terms are alternatives, so the expression goes into each; a node with no term at all gets one.
    terms = required.get("nodeSelectorTerms") or [{}]
    return {**required, "nodeSelectorTerms": [_with_expression(term, expression) for term in terms]}


def _preferred(node: Mapping[str, Any]) -> list[Json]:
    preferred = list(node.get(_PREFERRED) or ())
    return preferred if _PREFERENCE in preferred else [*preferred, _PREFERENCE]


def _with_expression(term: Mapping[str, Any], expression: Json) -> Json:
    expressions = list(term.get("matchExpressions") or ())
    return dict(term) if expression in expressions else {**term, "matchExpressions": [*expressions, expression]}
