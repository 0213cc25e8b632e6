"""What a capture pod is stuck on, from its status: the scheduler's and the runtime's words, and a remedy."""

import re
from datetime import datetime, timedelta
from typing import Final

from contract.api import control_files, keys
from contract.api.objects import ContainerState, ContainerView, JobView, PodView
from contract.api.states import CheckpointReason
from contract.api.times import parsed_time
from contract.config.sections import UNSET_REGISTRY
from controller.checkpoints.reasons import Problem
from kube.api import Object
from kube.errors import bounded

POD_PATIENCE: Final = 15.0
"""Seconds that the Job controller may take to make the pod before its absence is worth a word."""
SCHEDULER_PATIENCE: Final = 5.0
"""Seconds in which a volume is bound or a node becomes ready: until then an unscheduled pod is worth no warning."""
AGENT_PATIENCE: Final = 30.0
"""Seconds that a ready worker may wait for its agent before that is worth a word: twice an agent's restart."""

AGENT_LEASE_SECONDS: Final = 30
"""How long an agent's Lease lasts if it does not say so itself."""

PULL_REASONS: Final = frozenset({"ImagePullBackOff", "ErrImagePull", "ErrImageNeverPull", "InvalidImageName"})
START_REASONS: Final = frozenset({"CreateContainerError", "CreateContainerConfigError", "RunContainerError"})
TERMINAL_START_REASONS: Final = frozenset({"StartError", "ContainerCannotRun"})
# kubelet says the same failure in two ways that take turns; the part in common is the runtime's.
_BACK_OFF: Final = re.compile(r'^Back-off pulling image "[^"]*"(: \w+)?:?\s*')
PLACEHOLDER_REMEDY: Final = (
    "it is no placeholder image; let the program be brought in with the chart value placeholder.mode=inject "
    "(for workloads labelled auto alone: automatic.inject=true), or build a placeholder with "
    "`make docker-build-placeholder PLACEHOLDER_BASE_IMG=<image> PLACEHOLDER_IMG=<image>-placeholder` "
    "and use it in spec.job.podTemplateSpec, or map it with the chart value placeholder.images"
)
TOOLS_REMEDY: Final = (
    "it brings snapshot-standby in: check the chart value placeholder.inject.image (empty: the agent's image) and, for "
    "a private registry, placeholder.inject.pullSecrets; images that have it built in get no such container where "
    "placeholder.images names them"
)
UNSET_REGISTRY_REMEDY: Final = (
    "this is the chart's default name, which no registry serves: put the images (`make images`) into a registry that "
    "your nodes reach, and set daemonset.image.repository and controlPlane.image.repository, or global.imageRegistry, "
    "with `helm upgrade`"
)
_ROOT_NEEDED: Final = (
    "artifacts belong to root, so Jobs on them must be uid 0, which this namespace's Pod Security level forbids: "
    "`kubectl label namespace {} pod-security.kubernetes.io/enforce=baseline --overwrite` until the Job is done, then "
    "set the level back"
)
MAX_WARNING: Final = 350
"""Characters of the Job controller's words; what to do about them comes behind and must not be cut off."""
AGENT_SELECTOR: Final = f"{keys.LABEL_AGENT}={keys.LABEL_AGENT_VALUE}"
NODE_SELECTOR: Final = f"{keys.LABEL_NODE_READY}={keys.NODE_READY_VALUE}"


def scheduling(pod: PodView) -> Problem | None:
    """Say why the scheduler has not found a node, None if it has or has not looked yet."""
    entry = pod.conditions.get("PodScheduled")
    if entry is None or entry.is_true:
        return None
    words = entry.message or entry.reason or "no reason given"
    message = f"pod {pod.name} is not scheduled: {words}"
    # Affinity says that no node has our label, unless the template has an affinity of its own that is to blame.
    if keys.LABEL_NODE_READY in str(pod.affinity) and re.search(r"affinity|selector", words):
        message += (
            f"; capture pods go to nodes labelled {NODE_SELECTOR}, which the snapshot agent sets: "
            f"`kubectl get nodes -l {NODE_SELECTOR}` and `kubectl get pods -A -l {AGENT_SELECTOR}`"
        )
    return Problem(CheckpointReason.UNSCHEDULABLE, message)


def unscheduled_for(pod: PodView, now: datetime) -> float:
    """Return the seconds since the scheduler first said no; endless if it does not say when."""
    entry = pod.conditions.get("PodScheduled")
    return (now - entry.since).total_seconds() if entry is not None and entry.since is not None else float("inf")


def not_started(pod: PodView) -> Problem | None:
    """Return the first container that the runtime could not start."""
    # Init containers first: until they are done, the others only wait for them.
    for container in (*pod.init_containers, *pod.containers):
        waiting, ended = container.waiting, container.terminated
        if waiting.reason in PULL_REASONS:
            return _not_pulled(container)
        if waiting.reason in START_REASONS or ended.reason in TERMINAL_START_REASONS:
            return _cannot_start(pod, container, waiting if waiting.reason else ended)
    return None


def store_job_problem(job: JobView, pod: PodView | None, events: tuple[Object, ...], now: datetime) -> str:
    """Return what a Job on checkpoint storage is stuck on, empty if it goes on; *pod* is its newest."""
    if pod is not None:
        stuck = not_started(pod) or scheduling(pod)
        return stuck.message if stuck is not None else ""
    problem = no_pod(job, events, now) if not job.had_pod else None
    if problem is None:
        return ""
    needed = _ROOT_NEEDED.format(job.raw["metadata"]["namespace"])
    return problem.message + (f"; {needed}" if forbids_root(problem.message) else "")


def forbids_root(words: str) -> bool:
    """Say whether it is Pod Security that keeps a Job on checkpoint storage from running."""
    return "PodSecurity" in words


def exited(pod: PodView) -> str:
    """Say how the first failed container ended, empty if none did."""
    for container in pod.containers:
        ended = container.terminated
        if ended.exit_code:
            words = ended.message or ended.reason
            # "Error" is kubelet's word for any exit code but 0: it adds nothing.
            because = f" ({words})" if words and words != "Error" else ""
            return (
                f"container {container.name} exited with code {ended.exit_code}{because}; "
                f"see `kubectl logs {pod.name} -c {container.name}`"
            )
    return ""


def out_of_time(job: JobView) -> str:
    """Return the beginning of a failure's message if the Job was ended for its deadline, else empty."""
    # FailureTarget comes first, while the pod is still being ended.
    entries = (job.conditions.get(kind) for kind in ("FailureTarget", "Failed"))
    if not any(entry is not None and entry.reason == "DeadlineExceeded" for entry in entries):
        return ""
    return (
        f"the deadline of {job.deadline} s (spec.job.activeDeadlineSeconds) passed before "
        "the worker was ready to be captured: does it give the signal that spec.job.readySignal waits for (File: it "
        f"writes {control_files.READY_FOR_SNAPSHOT}, as snapshot_sdk.quiesce does; Probe: its probes)? "
    )


def no_pod(job: JobView, events: tuple[Object, ...], now: datetime) -> Problem | None:
    """Say why a Job has no pod: the Job controller's last warning."""
    if job.created is None or (now - job.created).total_seconds() < POD_PATIENCE:
        return None
    words = [str(event.get("message", "")) for event in events if event.get("type") == "Warning"]
    said = f": {bounded(words[-1], MAX_WARNING)}" if words else f"; see `kubectl describe job {job.name}`"
    return Problem(CheckpointReason.POD_NOT_CREATED, f"Job {job.name} has no pod{said}")


def agent_active(lease: Object | None, now: datetime) -> bool:
    """Say whether an agent says by its Lease that it is at work."""
    spec = (lease or {}).get("spec") or {}
    since = parsed_time(spec.get("renewTime")) or parsed_time(spec.get("acquireTime"))
    if since is None or not spec.get("holderIdentity", "unnamed"):
        return False
    return now < since + timedelta(seconds=spec.get("leaseDurationSeconds") or AGENT_LEASE_SECONDS)


def no_agent(
    job: JobView, pod: PodView, now: datetime, lease: Object | None = None
) -> tuple[Problem | None, float | None]:
    """Say whether no agent has come for a worker that is ready; else in how many seconds that could be said."""
    if job.annotations.get(keys.ANN_NODE) or job.annotations.get(keys.ANN_CHECKPOINT_STATUS):
        return None, None
    entry = pod.conditions.get("ContainersReady")
    if entry is None or not entry.is_true or entry.since is None:
        return None, None
    left = AGENT_PATIENCE - (now - entry.since).total_seconds()
    if left > 0:
        return None, left
    if agent_active(lease, now):
        # It holds the Lease before it writes its first word on the Job.
        return None, AGENT_PATIENCE
    message = (
        f"the worker is ready to be captured, but no snapshot agent on node {pod.node} has taken it up; look at "
        f"`kubectl get pods -A -o wide -l {AGENT_SELECTOR} --field-selector spec.nodeName={pod.node}` and its logs"
    )
    return Problem(CheckpointReason.NO_AGENT, message), None


def _not_pulled(container: ContainerView) -> Problem:
    words = _BACK_OFF.sub("", container.waiting.message) or "the pull is being tried again"
    image = container.image or "(unknown)"
    remedy = "check the image's name and imagePullSecrets in spec.job.podTemplateSpec"
    if image.startswith(f"{UNSET_REGISTRY}/"):
        remedy = UNSET_REGISTRY_REMEDY
    elif container.name == keys.TOOLS_VOLUME:
        remedy = TOOLS_REMEDY
    message = f"container {container.name}: image {image} cannot be pulled: {words}; {remedy}"
    return Problem(CheckpointReason.IMAGE_NOT_PULLED, message)


def _cannot_start(pod: PodView, container: ContainerView, state: ContainerState) -> Problem:
    words = state.message or state.reason
    if "snapshot-standby" in words:
        # The runtime's words are long and lead nowhere: what to do comes first, lest a bound cut it off.
        cause = f"cannot be started: image {container.image} has no snapshot-standby"
        message = f"container {container.name} {cause}: {PLACEHOLDER_REMEDY}; the runtime says: {words}"
        return Problem(CheckpointReason.CONTAINER_NOT_STARTED, message)
    message = f"container {container.name} cannot be started: {words}"
    if "seccomp" in words:
        message += (
            f"; the snapshot agent puts the seccomp profile on {pod.node or 'its node'}: is it running there? "
            f"`kubectl get pods -A -o wide -l {AGENT_SELECTOR}`"
        )
    else:
        message += "; correct spec.job.podTemplateSpec, or create what it names"
    return Problem(CheckpointReason.CONTAINER_NOT_STARTED, message)
