"""What a pod of this node is to the agent, and which of its containers counts: pure, from the objects as they are."""

from dataclasses import dataclass
from enum import Enum
from pathlib import PurePosixPath
from typing import Final

from contract.api import checkpoint as ckpt
from contract.api import keys
from contract.api.states import AgentReason, CaptureStatus, RestoreStatus
from contract.pods import parking, placeholder
from kube.api import Object

KUBELET_PODS: Final = PurePosixPath("/var/lib/kubelet/pods")
"""Where kubelet keeps the volumes of pods, on the node and in the agent alike."""
_FINAL: Final = frozenset({RestoreStatus.COMPLETED, RestoreStatus.FAILED})
_LIVE_PHASES: Final = frozenset({"Pending", "Running", ""})


class Role(Enum):
    """What a pod is to the agent."""

    NONE = 0
    SOURCE = 1
    """The pod of a capture Job."""
    TARGET = 2
    """A pod to restore into."""


@dataclass(frozen=True)
class Wait:
    """Nothing to do now."""

    why: str
    again: float | None = None
    """Seconds until another look is worth it; None: wait for the next change of the pod."""


@dataclass(frozen=True)
class Rejection:
    """A failure that is known without the engine."""

    reason: AgentReason
    message: str


class Refused(Exception):  # noqa: N818 - carries an answer through the checks, is no error of its own
    """What a pod asks for cannot be done."""

    def __init__(self, reason: AgentReason, message: str) -> None:
        super().__init__(message)
        self.refusal = Rejection(reason, message)


def role(pod: Object) -> Role:
    """Return what *pod* is to the agent."""
    labels = ckpt.labels_of(pod)
    if labels.get(keys.LABEL_IS_SOURCE) == "true":
        return Role.SOURCE
    if labels.get(keys.LABEL_CHECKPOINT_ID) and not labels.get(keys.LABEL_IS_SOURCE):
        return Role.TARGET
    return Role.NONE


def targets(pod: Object) -> tuple[str, ...] | Rejection:
    """Return the containers of a restore pod that standby waits in; none if it only carries the id, as a clean-up."""
    try:
        named = ckpt.target_containers(pod)
    except ckpt.TargetError as error:
        return Rejection(AgentReason.TARGETS_INVALID, str(error))
    if placeholder.waiting_containers(pod) and (wrong := placeholder.not_waiting(pod, named)):
        return Rejection(AgentReason.TARGETS_INVALID, wrong)
    return tuple(name for name in named if _mounts_control(pod, name))


def alive(pod: Object) -> bool:
    """Say whether containers of the pod may still start or run."""
    phase = (pod.get("status") or {}).get("phase") or ""
    return not pod["metadata"].get("deletionTimestamp") and phase in _LIVE_PHASES


def running_id(pod: Object, container: str) -> str:
    """Return the id of the running container, without the runtime's scheme; empty if none runs."""
    status = status_of(pod, container)
    running = (status.get("state") or {}).get("running")
    return container_id(status) if running is not None else ""


def awaits_readiness(pod: Object, container: str) -> bool:
    """Say whether nothing but its readiness probe keeps a running container from being ready."""
    status = status_of(pod, container)
    return bool(running_id(pod, container) and status.get("started") and not status.get("ready"))


def container_id(status: Object) -> str:
    """Return the id in a container status, without the runtime's scheme."""
    return str(status.get("containerID") or "").rpartition("://")[2]


def reported_id(pod: Object, container: str) -> str:
    """Return the id of the container whose restore the pod reports as ended; empty if there is none."""
    notes = ckpt.annotations_of(pod)
    if notes.get(keys.ANN_RESTORE_STATUS_PREFIX + container) not in _FINAL:
        return ""
    return notes.get(keys.ANN_RESTORE_CONTAINER_ID_PREFIX + container, "")


def wanted(pod: Object, container: str, handled: frozenset[str] = frozenset()) -> str | Wait:
    """Decide whether to restore into the container now: its id, empty if it is about to start first; or a Wait.

    Args:
        pod: as it was seen last.
        container: one of its targets.
        handled: ids of containers that were dealt with, whether the pod shows it already or not.
    """
    if not alive(pod):
        return Wait("the pod is ending")
    done = handled | {reported_id(pod, container)}
    found = running_id(pod, container)
    if found and found == parking.parked_id(pod, container) and not parking.is_woken(pod):
        return Wait("its worker is parked")
    if found:
        return Wait("this container was dealt with") if found in done else found
    status = status_of(pod, container)
    state = status.get("state") or {}
    if handled or status.get("restartCount") or status.get("lastState") or "terminated" in state:
        # Standby waits 5 s and status is behind by one: status shows a later start soon enough.
        return Wait("the container will start again, or not")
    return ""


def job_name(pod: Object) -> str:
    """Return the name of the Job of a capture pod; empty if it has none."""
    return ckpt.labels_of(pod).get(keys.LABEL_JOB_NAME, "")


def terminal(job: Object) -> bool:
    """Say whether the Job carries a final word."""
    return ckpt.annotations_of(job).get(keys.ANN_CHECKPOINT_STATUS) in set(CaptureStatus)


def owns(job: Object, pod: Object) -> bool:
    """Say whether the Job made the pod: a label alone may name any Job."""
    owners = pod["metadata"].get("ownerReferences") or ()
    return any(owner.get("kind") == "Job" and owner.get("uid") == job["metadata"].get("uid") for owner in owners)


def is_ready(pod: Object) -> bool:
    """Say whether the target of a capture pod is ready; the pod itself never is."""
    try:
        status = status_of(pod, only_target(pod))
    except Refused:
        return False
    return bool(status.get("ready")) and "running" in (status.get("state") or {})


def worth_a_look(pod: Object) -> bool:
    """Say whether the Job of a capture pod must be read: its target is ready, or has ended."""
    try:
        status = status_of(pod, only_target(pod))
    except Refused:
        return True
    return is_ready(pod) or "terminated" in (status.get("state") or {})


def only_target(pod: Object) -> str:
    """Return the container that is captured.

    Raises:
        Refused: the pod names several, or none that it has.
    """
    try:
        found = ckpt.target_containers(pod)
    except ckpt.TargetError as error:
        raise Refused(AgentReason.TARGETS_INVALID, str(error)) from error
    if len(found) != 1:
        raise Refused(
            AgentReason.TARGETS_INVALID,
            f"a capture has one target, annotation {keys.ANN_TARGET_CONTAINERS} names {', '.join(found)}",
        )
    return found[0]


def _mounts_control(pod: Object, container: str) -> bool:
    mounts = (ckpt.find_container(pod.get("spec") or {}, container) or {}).get("volumeMounts") or ()
    return any(mount.get("name") == keys.CONTROL_VOLUME for mount in mounts)


def status_of(pod: Object, container: str) -> Object:
    """Return the status of a container; empty if it has none."""
    statuses = (pod.get("status") or {}).get("containerStatuses") or ()
    return next((each for each in statuses if each.get("name") == container), {})
