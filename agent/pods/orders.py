"""What an agent is to do with a pod, as a request to its engine: pure, from the objects as they are.

Nothing in a pod was written by the agent, so ids, names and paths are checked here before they become part of a
request.
"""

from pathlib import PurePosixPath
from typing import Final

from agent.executor.api import (
    CaptureRequest,
    ContainerRef,
    ImageConfigRequest,
    LookRequest,
    RejectRequest,
    RestoreRequest,
)
from agent.pods.selection import (
    Refused,
    Rejection,
    Wait,
    container_id,
    is_ready,
    only_target,
    running_id,
    status_of,
    terminal,
)
from contract.api import checkpoint as ckpt
from contract.api import keys
from contract.api.preflight import read_preflight, requested_container
from contract.api.reports import read_report
from contract.api.states import AgentReason, GateEnd, Phase, ReadySignal
from contract.config.storage import BadIdError, Storage, check_id
from contract.nodes.compatibility import BypassError, read_bypass
from contract.pods import parking, placeholder
from contract.pods.canary import CanaryCall, CanaryError, canary_call, refuse_later_command
from contract.pods.probe import serving_probe
from contract.pods.weights import WeightsError, refers_to_weights
from kube.api import Object

AFTER_CANARY: Final = "the worker that was restored in this pod before did not answer its canary"
_CHECKPOINT_POLL: Final = 0.5
"""Seconds between looks at a checkpoint that a running pod names: the controller makes it, or has it to begin."""


def restore(
    pod: Object, container: str, checkpoint: Object | None, storage: Storage, attempts: int = 1
) -> RestoreRequest | RejectRequest:
    """Return the request to restore into a container, or to start it cold without delay.

    Args:
        pod: the restore pod.
        container: one of its targets.
        checkpoint: the DynamoCheckpoint that the pod names, None if there is none.
        storage: as configured.
        attempts: how often it may be tried.
    """
    place = _place(pod, container, running_id(pod, container))
    try:
        checkpoint_id, version = _artifact(pod)
        digest = _digest(pod, checkpoint, checkpoint_id, version)
        base_path = _base_path(pod, storage)
        canary, bypass = _canary(pod, container), _bypass(pod)
        _refuse_after_canary(pod, container)
        if checkpoint is not None:
            _refuse_unlike(pod, container, checkpoint, bypass)
    except Refused as refused:
        return RejectRequest(place, refused.refusal.reason, _since_the_gate(pod) + refused.refusal.message)
    return RestoreRequest(
        place,
        checkpoint_id,
        version,
        base_path,
        storage.in_pod,
        digest,
        canary,
        image=_image(pod, container),
        bypass=bypass,
        parks=parking.parks(pod, container) and not parking.is_woken(pod),
        attempts=attempts,
    )


def _since_the_gate(pod: Object) -> str:
    """Return what the message for a pod that waited for its checkpoint begins with."""
    end = ckpt.annotations_of(pod).get(keys.ANN_GATE, "")
    return f"the pod waited for its checkpoint and was let go ({end}): " if end in set(GateEnd) else ""


def checkpoint_name(pod: Object) -> str:
    """Return the name of the DynamoCheckpoint that the pod was shaped for; empty if it names none."""
    return ckpt.annotations_of(pod).get(keys.ANN_CHECKPOINT, "")


def capture(pod: Object, job: Object, ready_for: float, storage: Storage) -> CaptureRequest | Rejection | Wait:
    """Return what a capture pod asks for now.

    Args:
        pod: of a capture Job.
        job: its owner, as it is now.
        ready_for: seconds since its container was first seen ready; 0 if it is not.
        storage: as configured.
    """
    if terminal(job):
        return Wait("the Job has its verdict")
    try:
        target = only_target(pod)
        if (early := _not_ready(pod, job, target, ready_for)) is not None:
            return early
        checkpoint_id, version = _artifact(pod)
        base_path = _base_path(pod, storage)
        canary = _canary(pod, target)
    except Refused as refused:
        return refused.refusal
    status = status_of(pod, target)
    place = _place(pod, target, container_id(status))
    image, image_id = (str(status.get(key) or "") for key in ("image", "imageID"))
    container = ckpt.find_container(pod.get("spec") or {}, target) or {}
    probe = serving_probe(container, str((pod.get("status") or {}).get("podIP") or ""))
    return CaptureRequest(
        place=place,
        checkpoint_id=checkpoint_id,
        version=version,
        base_path=base_path,
        through_pod=storage.in_pod,
        image=image,
        image_id=image_id,
        probe=probe,
        writable_mounts=_writable_mounts(pod),
        canary=canary,
        refers_to_weights=_refers_to_weights(pod),
    )


def _refuse_after_canary(pod: Object, container: str) -> None:
    """Refuse a second restore in a pod: its container was started again because the first one answered wrongly."""
    report = read_report(ckpt.annotations_of(pod).get(keys.ANN_RESTORE_REPORT, ""))
    if report is not None and (report.container, report.reason) == (container, AgentReason.CANARY_FAILED):
        raise Refused(AgentReason.CANARY_FAILED, AFTER_CANARY)


def _refuse_unlike(pod: Object, container: str, checkpoint: Object, bypass: frozenset[AgentReason]) -> None:
    """Refuse what admission would have: on a placeholder the checkpoint is named when admission has long passed."""
    if container not in placeholder.waiting_containers(pod):
        return
    try:
        captured = {target.name: target.captured for target in ckpt.find_targets(pod)}.get(container, "")
    except ckpt.TargetError as error:
        raise Refused(AgentReason.TARGETS_INVALID, str(error)) from error
    if words := ckpt.other_container(captured, checkpoint):
        raise Refused(AgentReason.TARGETS_INVALID, words)
    if AgentReason.IMAGE_MISMATCH not in bypass and (words := placeholder.other_image(pod, container, checkpoint)):
        raise Refused(AgentReason.IMAGE_MISMATCH, words)


def _canary(pod: Object, container: str, *, is_asked: bool = True) -> CanaryCall | None:
    """Return the canary; one that is not asked need only be well written."""
    try:
        if is_asked:
            refuse_later_command(pod, container)
        return canary_call(pod, container)
    except CanaryError as error:
        raise Refused(AgentReason.CANARY_FAILED, f"annotation {keys.ANN_CANARY}: {error}") from error


def _bypass(pod: Object) -> frozenset[AgentReason]:
    try:
        return read_bypass(ckpt.annotations_of(pod).get(keys.ANN_BYPASS, ""))
    except BypassError as error:
        raise Refused(AgentReason.BYPASS_INVALID, f"annotation {keys.ANN_BYPASS}: {error}") from error


def _image(pod: Object, container: str) -> str:
    """Return the image with its digest: of the container that runs, else as far as the pod itself names one."""
    if running_id(pod, container):
        return str(status_of(pod, container).get("imageID") or "")
    return str((ckpt.find_container(pod.get("spec") or {}, container) or {}).get("image") or "")


def _refers_to_weights(pod: Object) -> bool | None:
    """Return what the pod says; a word that is not known stores all, and the controller refuses it in a template."""
    try:
        return refers_to_weights(pod)
    except WeightsError:
        return False


def _writable_mounts(pod: Object) -> tuple[str, ...]:
    words = ckpt.annotations_of(pod).get(keys.ANN_WRITABLE_MOUNTS, "").split(",")
    return tuple(word.strip().rstrip("/") for word in words if word.strip().startswith("/"))


def provide_image_config(pod: Object) -> ImageConfigRequest | None:
    """Return the request of a standby that waits for its image's command line; None if it does not, or not yet."""
    try:
        target = only_target(pod)
    except Refused:
        return None
    command = (ckpt.find_container(pod.get("spec") or {}, target) or {}).get("command") or ()
    status = status_of(pod, target)
    if keys.STANDBY_IMAGE_ENTRYPOINT not in command or not status.get("imageID") or not running_id(pod, target):
        return None
    return ImageConfigRequest(_place(pod, target, running_id(pod, target)), str(status["imageID"]))


def look(pod: Object, storage: Storage) -> LookRequest | None:
    """Return what a pod's preflight asks for; None if it has none, its container does not run, or it was answered."""
    notes = ckpt.annotations_of(pod)
    request = notes.get(keys.ANN_PREFLIGHT, "")
    container = requested_container(request)
    answered = read_preflight(notes.get(keys.ANN_PREFLIGHT_REPORT, ""))
    if not container or not running_id(pod, container) or (answered is not None and answered.request == request):
        return None
    return LookRequest(_place(pod, container, running_id(pod, container)), _writable_mounts(pod), storage.in_pod)


def capture_running(pod: Object, checkpoint: Object | None, storage: Storage) -> CaptureRequest | Rejection | Wait:
    """Return what a running pod asks for that names a checkpoint; a Wait without a time: nothing, or not any more.

    Who may change the pod names the checkpoint, and the checkpoint names the pod: one word alone captures nothing.
    """
    if checkpoint is None:
        return Wait("the checkpoint is not there yet", _CHECKPOINT_POLL)
    if (wait := _not_begun(pod, checkpoint)) is not None:
        return wait
    target = ckpt.job_target(checkpoint)
    try:
        checkpoint_id = check_id(str(checkpoint["status"].get("checkpointID")))
        version = ckpt.captured_version(checkpoint, checkpoint_id)
        canary = _canary(pod, target, is_asked=False)
    except BadIdError as error:
        return Rejection(AgentReason.ID_INVALID, str(error))
    except Refused as refused:
        return refused.refusal
    found = running_id(pod, target)
    if not found:
        return Rejection(AgentReason.NO_WORKER, f"container {target} does not run")
    return CaptureRequest(
        place=_place(pod, target, found),
        checkpoint_id=checkpoint_id,
        version=version,
        base_path=PurePosixPath(storage.base_path),
        through_pod=False,
        image=str(status_of(pod, target).get("image") or ""),
        image_id=str(status_of(pod, target).get("imageID") or ""),
        writable_mounts=_writable_mounts(pod),
        canary=canary,
        refers_to_weights=_refers_to_weights(pod),
    )


def _not_begun(pod: Object, checkpoint: Object) -> Wait | None:
    phase = (checkpoint.get("status") or {}).get("phase") or Phase.PENDING
    asked_for = ckpt.source_pod(checkpoint).get("podUID") == pod["metadata"]["uid"]
    if phase == Phase.FAILED:  # the controller has it captured again, of this pod or another that asks
        return Wait("the checkpoint failed, and is not captured again (yet)", _CHECKPOINT_POLL)
    if not asked_for or phase not in (Phase.PENDING, Phase.CREATING):
        return Wait("the checkpoint is of another pod, or done")
    return Wait("the controller has not started", _CHECKPOINT_POLL) if phase == Phase.PENDING else None


def _not_ready(pod: Object, job: Object, target: str, ready_for: float) -> Rejection | Wait | None:
    ended = (status_of(pod, target).get("state") or {}).get("terminated")
    if ended is not None:
        return _ended(pod, job, target, ended)
    if pod["metadata"].get("deletionTimestamp"):
        return Wait("the pod is ending")
    if not is_ready(pod):
        return Wait("the worker is not ready to be captured")
    notes = ckpt.annotations_of(pod)
    if notes.get(keys.ANN_READY_SIGNAL) != ReadySignal.PROBE:
        return None
    text = notes.get(keys.ANN_SETTLE_SECONDS, "")
    left = (int(text) if text.isdecimal() else ckpt.DEFAULT_SETTLE_SECONDS) - ready_for
    return Wait("the worker has just become ready", left) if left > 0 else None


def _ended(pod: Object, job: Object, target: str, ended: Object) -> Rejection:
    code, why = ended.get("exitCode"), ended.get("reason")
    name, namespace = pod["metadata"]["name"], pod["metadata"].get("namespace", "")
    said = f"container {target} exited with code {code}" + (f" ({why})" if why and why != "Error" else "")
    log = f"see `kubectl logs -n {namespace} {name} -c {target}`"
    if ckpt.annotations_of(job).get(keys.ANN_NODE):
        return Rejection(AgentReason.AGENT_DIED, f"the snapshot agent ended during the capture, and {said}; {log}")
    return Rejection(AgentReason.WORKER_EXITED, f"{said} before it was captured; {log}")


def _artifact(pod: Object) -> tuple[str, str]:
    checkpoint_id = ckpt.labels_of(pod).get(keys.LABEL_CHECKPOINT_ID, "")
    try:
        return check_id(checkpoint_id), ckpt.artifact_version(pod)
    except BadIdError as error:
        raise Refused(AgentReason.ID_INVALID, str(error)) from error


def _base_path(pod: Object, storage: Storage) -> PurePosixPath:
    if not storage.in_pod:
        return PurePosixPath(storage.base_path)
    notes = ckpt.annotations_of(pod)
    kind = notes.get(keys.ANN_STORAGE_TYPE) or "pvc"
    if kind != "pvc":
        raise Refused(AgentReason.STORAGE_TYPE, f"annotation {keys.ANN_STORAGE_TYPE} is {kind!r}; only pvc is served")
    text = notes.get(keys.ANN_STORAGE_BASE_PATH) or storage.base_path
    path = PurePosixPath(text)
    if str(path) != text or not path.is_absolute() or ".." in path.parts or path == PurePosixPath("/"):
        raise Refused(
            AgentReason.STORAGE_PATH,
            f"annotation {keys.ANN_STORAGE_BASE_PATH} is {text!r}; it must be a clean absolute path below /",
        )
    return path


def _digest(pod: Object, checkpoint: Object | None, checkpoint_id: str, version: str) -> str:
    """Return the digest of the one manifest that may be restored: from the controller, never from pod or artifact."""
    name = checkpoint_name(pod)
    if not name:
        raise Refused(AgentReason.CHECKPOINT_UNNAMED, f"the pod has no annotation {keys.ANN_CHECKPOINT}")
    if checkpoint is None:
        raise Refused(AgentReason.CHECKPOINT_NOT_FOUND, f"DynamoCheckpoint {name} does not exist any more")
    if checkpoint["metadata"].get("deletionTimestamp"):
        raise Refused(AgentReason.CHECKPOINT_NOT_FOUND, f"DynamoCheckpoint {name} is being deleted")
    status = checkpoint.get("status") or {}
    digest = _kept_version(status, checkpoint_id, version)
    if digest is None:
        digest = _current_version(name, status, checkpoint_id, version)
    if not digest:
        raise Refused(
            AgentReason.DIGEST_UNKNOWN,
            f"DynamoCheckpoint {name} has no manifest digest of version {version}; capture it under a new version",
        )
    return digest


def _kept_version(status: Object, checkpoint_id: str, version: str) -> str | None:
    """Return the digest of a version that the checkpoint keeps, whatever happens to the newest; None if not listed."""
    if status.get("checkpointID") != checkpoint_id:
        return None
    kept = (each for each in status.get("versions") or () if each.get("version") == version)
    return next((str(each.get("manifestDigest") or "") for each in kept), None)


def _current_version(name: str, status: Object, checkpoint_id: str, version: str) -> str:
    if status.get("phase") != Phase.READY:
        raise Refused(
            AgentReason.CHECKPOINT_NOT_READY,
            f"DynamoCheckpoint {name} is {status.get('phase') or Phase.PENDING}, not Ready",
        )
    _same_artifact(name, status, checkpoint_id, version)
    return str(status.get("manifestDigest") or "")


def _same_artifact(name: str, status: Object, checkpoint_id: str, version: str) -> None:
    found = status.get("checkpointID")
    location = str(status.get("location") or "")
    elsewhere = location and PurePosixPath(location).parts[-3:] != (checkpoint_id, "versions", version)
    if found != checkpoint_id or elsewhere:
        raise Refused(
            AgentReason.CHECKPOINT_CHANGED,
            f"the pod was shaped for {checkpoint_id} version {version}, but DynamoCheckpoint {name} now has "
            f"{found or 'no id'} at {location or 'no location'}; create the pod again",
        )


def _place(pod: Object, container: str, found: str) -> ContainerRef:
    metadata = pod["metadata"]
    return ContainerRef(
        namespace=metadata.get("namespace", ""),
        pod=metadata["name"],
        pod_uid=metadata["uid"],
        container=container,
        container_id=found,
        empty_dirs=_empty_dirs(pod, container),
    )


def _empty_dirs(pod: Object, container: str) -> frozenset[str]:
    """Return mount paths; shared memory and the control volume are the engine's own affair."""
    spec = pod.get("spec") or {}
    names = {volume.get("name") for volume in spec.get("volumes") or () if volume.get("emptyDir") is not None}
    theirs = names - {None, keys.CONTROL_VOLUME}
    mounts = (ckpt.find_container(spec, container) or {}).get("volumeMounts") or ()
    paths = {str(mount.get("mountPath", "")) for mount in mounts if mount.get("name") in theirs}
    return frozenset(paths - {"", keys.SHARED_MEMORY_DIR})
