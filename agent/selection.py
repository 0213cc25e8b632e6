"""Which pods of this node are to be captured or restored, and when. Pure.

The answer is an order for the engine, or what the pod still waits for, or why it cannot be served.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import PurePosixPath
from typing import Any, Final

from agent.orders import CaptureOrder, Place, RestoreOrder
from contract import keys
from contract.checkpoint import annotations_of, artifact_version, labels_of, target_containers
from contract.states import CaptureStatus, ReadySignal, RestoreStatus
from contract.storage import BadIdError, check_id, check_version
from contract.values import Values

Object = dict[str, Any]
FINAL: Final = frozenset({CaptureStatus.COMPLETED.value, CaptureStatus.FAILED.value})
RESTORED: Final = frozenset({RestoreStatus.COMPLETED.value, RestoreStatus.FAILED.value})


@dataclass(frozen=True)
class Site:
    """What selection needs to know of this node."""

    kubelet_pods: PurePosixPath
    base_path: PurePosixPath
    through_pod: bool

    @classmethod
    def of(cls, values: Values, kubelet_pods: PurePosixPath) -> "Site":
        """Return the site that the chart's values describe."""
        through_pod = values.storage.access_mode == "podMount"
        return cls(kubelet_pods, PurePosixPath(values.storage.pvc.base_path), through_pod)


@dataclass(frozen=True)
class Wait:
    """Not yet; look again after *seconds*, or when the pod changes if None."""

    seconds: float | None = None


@dataclass(frozen=True)
class Refuse:
    """Cannot be served: a kebab-case code and a sentence that says what to do."""

    reason: str
    message: str


@dataclass(frozen=True)
class WorkerEnded:
    """The worker of a capture pod ended before it was captured."""

    exit_code: int


def is_source(pod: Object) -> bool:
    """Whether this is a capture pod."""
    return labels_of(pod).get(keys.LABEL_IS_SOURCE) == "true" and bool(_id(pod))


def is_restore_target(pod: Object) -> bool:
    """Whether this is a restore pod: an id, and no mark of a source."""
    return bool(_id(pod)) and not labels_of(pod).get(keys.LABEL_IS_SOURCE)


def _id(pod: Object) -> str:
    return str(labels_of(pod).get(keys.LABEL_CHECKPOINT_ID, ""))


def gone(pod: Object) -> bool:
    """Whether nothing can be done for the pod any more."""
    return bool(pod["metadata"].get("deletionTimestamp")) or pod.get("status", {}).get("phase") in {
        "Succeeded",
        "Failed",
    }


def status_of(pod: Object, container: str) -> Mapping[str, Any]:
    """Return the container's status, empty while there is none."""
    statuses: Iterable[Mapping[str, Any]] = pod.get("status", {}).get("containerStatuses") or []
    return next((each for each in statuses if each.get("name") == container), {})


def container_id(pod: Object, container: str) -> str:
    """Return the running container's id without the runtime's scheme, empty while none is known to run."""
    status = status_of(pod, container)
    if "running" not in status.get("state", {}):
        return ""
    return str(status.get("containerID", "")).rpartition("//")[2]


def capture(pod: Object, job: Object, site: Site, now: datetime) -> CaptureOrder | Wait | Refuse | WorkerEnded:
    """What to do for a capture pod."""
    if annotations_of(job).get(keys.ANN_CHECKPOINT_STATUS) in FINAL:
        return Wait()
    try:
        target = _one_target(pod)
        checkpoint_id, version = check_id(_id(pod)), check_version(artifact_version(pod))
        base_path, through_pod = _store(pod, site)
    except ValueError as error:
        return Refuse("capture-pod-invalid", str(error))
    status = status_of(pod, target)
    if ended := status.get("state", {}).get("terminated"):
        return WorkerEnded(int(ended.get("exitCode", 0)))
    if gone(pod) or not status.get("ready"):
        return Wait()
    if (left := _settling(pod, now)) > 0:
        return Wait(left)
    place = _place(pod, target, site)
    return CaptureOrder(place, checkpoint_id, version, base_path, through_pod, str(status.get("image", "")))


def _one_target(pod: Object) -> str:
    targets = target_containers(pod)
    if len(targets) != 1:
        raise ValueError(f"{keys.ANN_TARGET_CONTAINERS} must name exactly one container, it names {len(targets)}")
    return targets[0]


def _settling(pod: Object, now: datetime) -> float:
    """Seconds that a worker with ready signal Probe must still have been ready."""
    annotations = annotations_of(pod)
    if annotations.get(keys.ANN_READY_SIGNAL) != ReadySignal.PROBE:
        return 0.0
    wanted = annotations.get(keys.ANN_SETTLE_SECONDS, "0")
    conditions: Iterable[Mapping[str, Any]] = pod.get("status", {}).get("conditions") or []
    since = next((each.get("lastTransitionTime") for each in conditions if each.get("type") == "ContainersReady"), None)
    if since is None or not wanted.isdecimal():
        return 0.0
    return float(wanted) - (now - datetime.fromisoformat(str(since))).total_seconds()


def restore_targets(pod: Object) -> tuple[str, ...] | Refuse:
    """The containers of a restore pod that still want a restore, in order."""
    try:
        targets = target_containers(pod)
    except ValueError as error:
        return Refuse("targets-invalid", str(error))
    return tuple(target for target in targets if not _done(pod, target))


def _done(pod: Object, container: str) -> bool:
    annotations = annotations_of(pod)
    if annotations.get(keys.ANN_RESTORE_STATUS_PREFIX + container) not in RESTORED:
        return False
    current = container_id(pod, container)
    told = annotations.get(keys.ANN_RESTORE_CONTAINER_ID_PREFIX + container, "")
    # No id in the status means that kubelet has not said which container runs: the annotation is all there is.
    return not current or not told or current == told


def restore(pod: Object, container: str, checkpoint: Object, site: Site) -> RestoreOrder | Refuse:
    """The order for one container, trusting nothing but the DynamoCheckpoint for what may be restored."""
    try:
        checkpoint_id, version = check_id(_id(pod)), check_version(artifact_version(pod))
        base_path, through_pod = _store(pod, site)
    except ValueError as error:
        return Refuse("restore-pod-invalid", str(error))
    status = checkpoint.get("status", {})
    name = checkpoint["metadata"]["name"]
    if status.get("checkpointID") != checkpoint_id:
        words = f"DynamoCheckpoint {name} has id {status.get('checkpointID')}, the pod was shaped for {checkpoint_id}"
        return Refuse("checkpoint-changed", words)
    if artifact_version(checkpoint) != version or not status.get("manifestDigest"):
        words = f"DynamoCheckpoint {name} names no manifest of version {version}; is it Ready?"
        return Refuse("manifest-unknown", words)
    place = _place(pod, container, site)
    return RestoreOrder(place, checkpoint_id, version, base_path, through_pod, str(status["manifestDigest"]))


def _store(pod: Object, site: Site) -> tuple[PurePosixPath, bool]:
    """Where the store is for this pod: its own annotation goes before the agent's configuration."""
    said = annotations_of(pod).get(keys.ANN_STORAGE_BASE_PATH, "").strip()
    if not said:
        return site.base_path, site.through_pod
    path = PurePosixPath(said)
    if not path.is_absolute() or ".." in path.parts or str(path) != said:
        raise ValueError(f"{keys.ANN_STORAGE_BASE_PATH} must be an absolute, clean path, is {said!r}")
    return path, True


def _place(pod: Object, container: str, site: Site) -> Place:
    metadata = pod["metadata"]
    return Place(
        namespace=metadata["namespace"],
        pod=metadata["name"],
        pod_uid=metadata["uid"],
        container=container,
        container_id=container_id(pod, container),
        empty_dirs=_empty_dirs(pod, container, site.kubelet_pods / metadata["uid"]),
    )


def _empty_dirs(pod: Object, container: str, folder: PurePosixPath) -> dict[str, str]:
    """Mount path -> path on the node. Memory-backed volumes are the container's own tmpfs mounts, not folders."""
    spec = pod["spec"]
    volumes = {
        each["name"]: each["emptyDir"] or {}
        for each in spec.get("volumes") or []
        if "emptyDir" in each and each["name"] != keys.CONTROL_VOLUME
    }
    mounts = next((each.get("volumeMounts") or [] for each in spec["containers"] if each["name"] == container), [])
    found = {}
    for mount in mounts:
        if mount["name"] not in volumes or volumes[mount["name"]].get("medium") == "Memory":
            continue
        path = folder / "volumes" / "kubernetes.io~empty-dir" / mount["name"] / mount.get("subPath", "")
        if ".." in path.parts:
            raise BadIdError(f"volume mount {mount['mountPath']}: a subPath with '..' is not captured")
        found[mount["mountPath"]] = str(path)
    return found
