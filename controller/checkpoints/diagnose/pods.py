"""What a capture pod is stuck on, from its own status: the scheduler's and the runtime's words, and a remedy."""

import re
from datetime import datetime, timedelta
from typing import Final

from contract.api import control_files, keys
from contract.api.checkpoint import annotations_of
from contract.api.conditions import condition
from contract.api.times import parsed_time
from contract.config.sections import UNSET_REGISTRY
from controller.checkpoints.reasons import Problem, Reason
from kube.api import Object
from kube.errors import bounded

POD_PATIENCE: Final = 15.0
"""Seconds that the Job controller may take to make the pod before its absence is worth a word."""
SCHEDULER_PATIENCE: Final = 5.0
"""Seconds in which a volume is bound or a node becomes ready: until then an unscheduled pod is worth no warning."""
AGENT_PATIENCE: Final = 30.0
"""Seconds that a ready worker may wait for its agent before that is worth a word: twice an agent's restart."""

AGENT_LEASE_SECONDS: Final = 30
"""How long an agent's Lease lasts where it does not say so itself."""

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


def newest(pods: tuple[Object, ...]) -> Object | None:
    """The pod made last, None where there is none."""
    return max(pods, key=lambda pod: str(pod["metadata"].get("creationTimestamp", "")), default=None)


def scheduling(pod: Object) -> Problem | None:
    """Why the scheduler has not found a node, None where it has or has not looked yet."""
    entry = condition(pod, "PodScheduled")
    if entry is None or entry.get("status") == "True":
        return None
    words = str(entry.get("message") or entry.get("reason") or "no reason given")
    message = f"pod {pod['metadata']['name']} is not scheduled: {words}"
    if _wants_ready_node(pod) and re.search(r"affinity|selector", words):
        message += (
            f"; capture pods go to nodes labelled {NODE_SELECTOR}, which the snapshot agent sets: "
            f"`kubectl get nodes -l {NODE_SELECTOR}` and `kubectl get pods -A -l {AGENT_SELECTOR}`"
        )
    return Problem(Reason.UNSCHEDULABLE, message)


def unscheduled_for(pod: Object, now: datetime) -> float:
    """Seconds since the scheduler first said no; endless where it does not say when."""
    entry = condition(pod, "PodScheduled") or {}
    since = parsed_time(entry.get("lastTransitionTime"))
    return (now - since).total_seconds() if since is not None else float("inf")


def not_started(pod: Object) -> Problem | None:
    """The first container that the runtime could not start."""
    status = pod.get("status") or {}
    for entry in [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]:
        state = entry.get("state") or {}
        waiting, ended = state.get("waiting") or {}, state.get("terminated") or {}
        if waiting.get("reason") in PULL_REASONS:
            return _not_pulled(entry, waiting)
        if waiting.get("reason") in START_REASONS or ended.get("reason") in TERMINAL_START_REASONS:
            return _cannot_start(pod, entry, waiting or ended)
    return None


def has_no_pod(job: Object) -> bool:
    """Whether the Job controller has made none."""
    status = job.get("status") or {}
    return not any(status.get(count) for count in ("active", "succeeded", "failed"))


def store_job_problem(job: Object, pods: tuple[Object, ...], events: tuple[Object, ...], now: datetime) -> str:
    """What a Job on checkpoint storage is stuck on, empty where it goes on."""
    pod = newest(pods)
    if pod is not None:
        stuck = not_started(pod) or scheduling(pod)
        return stuck.message if stuck is not None else ""
    problem = no_pod(job, events, now) if has_no_pod(job) else None
    if problem is None:
        return ""
    needed = _ROOT_NEEDED.format(job["metadata"]["namespace"])
    return problem.message + (f"; {needed}" if forbids_root(problem.message) else "")


def forbids_root(words: str) -> bool:
    """Whether it is Pod Security that keeps a Job on checkpoint storage from running."""
    return "PodSecurity" in words


def exited(pod: Object) -> str:
    """How the first failed container ended, empty where none did."""
    for entry in (pod.get("status") or {}).get("containerStatuses") or ():
        ended = (entry.get("state") or {}).get("terminated") or {}
        if ended.get("exitCode"):
            return (
                f"container {entry['name']} exited with code {ended['exitCode']}"
                f"{_because(ended)}; see `kubectl logs {pod['metadata']['name']} -c {entry['name']}`"
            )
    return ""


def out_of_time(job: Object) -> str:
    """The beginning of a failure's message where the Job was ended for its deadline, else empty."""
    entries = [condition(job, kind) or {} for kind in ("FailureTarget", "Failed")]
    if not any(entry.get("reason") == "DeadlineExceeded" for entry in entries):
        return ""
    return (
        f"the deadline of {job['spec'].get('activeDeadlineSeconds')} s (spec.job.activeDeadlineSeconds) passed before "
        "the worker was ready to be captured: does it give the signal that spec.job.readySignal waits for (File: it "
        f"writes {control_files.READY_FOR_SNAPSHOT}, as snapshot_sdk.quiesce does; Probe: its probes)? "
    )


def no_pod(job: Object, events: tuple[Object, ...], now: datetime) -> Problem | None:
    """Why a Job has no pod: the Job controller's last warning."""
    made = parsed_time(job["metadata"].get("creationTimestamp"))
    if made is None or (now - made).total_seconds() < POD_PATIENCE:
        return None
    words = [str(event.get("message", "")) for event in events if event.get("type") == "Warning"]
    said = (
        f": {bounded(words[-1], MAX_WARNING)}" if words else f"; see `kubectl describe job {job['metadata']['name']}`"
    )
    return Problem(Reason.POD_NOT_CREATED, f"Job {job['metadata']['name']} has no pod{said}")


def agent_active(lease: Object | None, now: datetime) -> bool:
    """Whether an agent says by its Lease that it is at work."""
    spec = (lease or {}).get("spec") or {}
    since = parsed_time(spec.get("renewTime")) or parsed_time(spec.get("acquireTime"))
    if since is None or not spec.get("holderIdentity", "unnamed"):
        return False
    return now < since + timedelta(seconds=spec.get("leaseDurationSeconds") or AGENT_LEASE_SECONDS)


def no_agent(
    job: Object, pod: Object, now: datetime, lease: Object | None = None
) -> tuple[Problem | None, float | None]:
    """Whether a ready worker waits for an agent in vain; else in how many seconds that could be said."""
    if annotations_of(job).get(keys.ANN_NODE) or annotations_of(job).get(keys.ANN_CHECKPOINT_STATUS):
        return None, None
    entry = condition(pod, "ContainersReady")
    since = parsed_time(entry.get("lastTransitionTime")) if entry and entry.get("status") == "True" else None
    if since is None:
        return None, None
    left = AGENT_PATIENCE - (now - since).total_seconds()
    if left > 0:
        return None, left
    if agent_active(lease, now):
        return None, AGENT_PATIENCE
    node = (pod.get("spec") or {}).get("nodeName", "")
    message = (
        f"the worker is ready to be captured, but no snapshot agent on node {node} has taken it up; look at "
        f"`kubectl get pods -A -o wide -l {AGENT_SELECTOR} --field-selector spec.nodeName={node}` and its logs"
    )
    return Problem(Reason.NO_AGENT, message), None


def _wants_ready_node(pod: Object) -> bool:
    return keys.LABEL_NODE_READY in str((pod.get("spec") or {}).get("affinity") or "")


def _not_pulled(entry: Object, waiting: Object) -> Problem:
    words = _BACK_OFF.sub("", str(waiting.get("message") or "")) or "the pull is being tried again"
    image = entry.get("image") or "(unknown)"
    remedy = "check the image's name and imagePullSecrets in spec.job.podTemplateSpec"
    if image.startswith(f"{UNSET_REGISTRY}/"):
        remedy = UNSET_REGISTRY_REMEDY
    elif entry["name"] == keys.TOOLS_VOLUME:
        remedy = TOOLS_REMEDY
    message = f"container {entry['name']}: image {image} cannot be pulled: {words}; {remedy}"
    return Problem(Reason.IMAGE_NOT_PULLED, message)


def _cannot_start(pod: Object, entry: Object, said: Object) -> Problem:
    words = str(said.get("message") or said.get("reason"))
    node = (pod.get("spec") or {}).get("nodeName", "its node")
    if "snapshot-standby" in words:
        # The runtime's words are long and lead nowhere: what to do comes first, lest a bound cut it off.
        cause = f"cannot be started: image {entry.get('image', '')} has no snapshot-standby"
        message = f"container {entry['name']} {cause}: {PLACEHOLDER_REMEDY}; the runtime says: {words}"
        return Problem(Reason.CONTAINER_NOT_STARTED, message)
    message = f"container {entry['name']} cannot be started: {words}"
    if "seccomp" in words:
        message += (
            f"; the snapshot agent puts the seccomp profile on {node}: is it running there? "
            f"`kubectl get pods -A -o wide -l {AGENT_SELECTOR}`"
        )
    else:
        message += "; correct spec.job.podTemplateSpec, or create what it names"
    return Problem(Reason.CONTAINER_NOT_STARTED, message)


def _because(ended: Object) -> str:
    words = ended.get("message") or ended.get("reason")
    return f" ({words})" if words and words != "Error" else ""
