"""A checkpoint of a running pod: no Job is made; the agent of the pod's node captures it, and says so on the pod.

The pod goes on whatever comes of it, so nothing is tried again by itself: the moment would not be the asker's.
"""

from typing import Any, Final

from contract.api import keys
from contract.api.checkpoint import annotations_of, captured_version, job_spec, source_pod
from contract.api.objects import JobView
from contract.api.running import CaptureResult, read_result, requested_checkpoint
from contract.api.states import CaptureStatus, CheckpointReason, ConditionType, Phase
from contract.api.times import parsed_time
from controller.checkpoints.capture_result import agent_reason, with_code
from controller.checkpoints.observed import Pass, wanted_job
from controller.checkpoints.plan.creating import ready
from controller.checkpoints.plan.status import Status, Step
from controller.checkpoints.reasons import Problem
from kube.api import Object
from kube.errors import bounded

POLL_SECONDS: Final = 1.0
REQUEST_SECONDS: Final = 5.0
"""Between looks whether a pod asks for the version that is wanted: no event of a pod wakes its checkpoint."""
AGENT_PATIENCE: Final = 30.0
"""Seconds before a status says that no agent has answered."""
_ENDED: Final = frozenset({"Succeeded", "Failed"})
_MAX_WORDS: Final = 800
"""Characters of the agent's message; what to do comes behind it."""


def begin(current: Pass, status: Status) -> Step:
    """Hand the pod over to its agent, which waits for this word."""
    name = source_pod(current.checkpoint).get("podName")
    if problem := _gone(current):
        return _failed(status, problem)
    if current.storage.in_pod:
        words = "a running pod cannot write the checkpoint volume with storage.accessMode=podMount; use agentMount"
        return _failed(status, Problem(CheckpointReason.POD_CAPTURE_FAILED, words))
    words = f"pod {name} is captured while it runs"
    begun = status.with_condition(
        ConditionType.JOB_CREATED, met=True, reason=CheckpointReason.POD_CAPTURE_STARTED, message=words
    )
    return Step(begun.with_fields(phase=Phase.CREATING.value), requeue=POLL_SECONDS)


def follow(current: Pass, status: Status) -> Step:
    """Plan one pass while the agent is at work."""
    result = _result(current, status)
    if result is None:
        return _await(current, status)
    capture = _as_job(current, result)
    if result.notes.get(keys.ANN_CHECKPOINT_STATUS) == CaptureStatus.COMPLETED:
        return Step(ready(current, status, capture, CheckpointReason.POD_CAPTURED))
    words = bounded(result.notes.get(keys.ANN_CAPTURE_MESSAGE) or "see the log of its node's agent", _MAX_WORDS)
    words = with_code(words, agent_reason(capture.raw))
    return _failed(status, Problem(CheckpointReason.POD_CAPTURE_FAILED, f"the pod goes on, not captured: {words}"))


def not_requested(current: Pass, status: Status) -> Problem | None:
    """Say that a new version is wanted of a checkpoint that is Ready, and its pod does not ask for that."""
    checkpoint, wanted = current.checkpoint, wanted_job(current.checkpoint)
    name = source_pod(checkpoint).get("podName")
    if status.phase != Phase.READY or not name or wanted in ("", status.job_name):
        return None
    notes = annotations_of(current.observed.source_pod or {})
    request, answer = notes.get(keys.ANN_CAPTURE, ""), read_result(notes.get(keys.ANN_CAPTURE_RESULT, ""))
    asks = requested_checkpoint(request) == checkpoint["metadata"]["name"]
    if asks and (answer is None or answer.request != request) and _gone(current) is None:
        return None
    version = captured_version(checkpoint, status.checkpoint_id)
    words = (
        f"version {version} is kept: annotation {keys.ANN_ARTIFACT_VERSION} asks for another, and pod {name} does not "
        f"ask to be captured; run `snapshotctl checkpoint --pod {name} --name ANOTHER`, or set it back to {version}"
    )
    return Problem(CheckpointReason.POD_CAPTURE_NOT_REQUESTED, words)


def _await(current: Pass, status: Status) -> Step:
    if problem := _gone(current):
        return _failed(status, problem)
    pod = current.observed.source_pod or {}
    begun = parsed_time((status.condition(ConditionType.JOB_CREATED) or {}).get("lastTransitionTime")) or current.now
    waited = (current.now - begun).total_seconds()
    where = f"pod {pod['metadata']['name']} on node {(pod.get('spec') or {}).get('nodeName', '')}"
    asks = requested_checkpoint(annotations_of(pod).get(keys.ANN_CAPTURE, "")) == current.checkpoint["metadata"]["name"]
    words = f"no agent has captured {where} yet"
    if not asks:
        words = f"{where} does not name this checkpoint in annotation {keys.ANN_CAPTURE}"
    if waited > int(job_spec(current.checkpoint).get("activeDeadlineSeconds") or keys.DEFAULT_ACTIVE_DEADLINE_SECONDS):
        return _failed(status, Problem(CheckpointReason.POD_CAPTURE_FAILED, f"{words}, and its time is over"))
    problem = Problem(CheckpointReason.NO_AGENT, words) if waited > AGENT_PATIENCE else None
    return Step(status.waiting(problem), requeue=POLL_SECONDS)


def _gone(current: Pass) -> Problem | None:
    wanted, pod = source_pod(current.checkpoint), current.observed.source_pod
    same = pod is not None and pod["metadata"].get("uid") == wanted.get("podUID")
    if pod is not None and same and (pod.get("status") or {}).get("phase") not in _ENDED:
        return None
    words = f"pod {wanted.get('podName')} with uid {wanted.get('podUID')} does not run any more; capture another one"
    return Problem(CheckpointReason.SOURCE_POD_GONE, words)


def _result(current: Pass, status: Status) -> CaptureResult | None:
    """Return the agent's word on this capture, and no other."""
    checkpoint, pod = current.checkpoint, current.observed.source_pod
    result = read_result(annotations_of(pod or {}).get(keys.ANN_CAPTURE_RESULT, ""))
    if result is None or result.checkpoint != checkpoint["metadata"].get("uid"):
        return None
    if not result.version:  # refused before a version was known: it answers that request, and none after it
        return result if result.request == annotations_of(pod or {}).get(keys.ANN_CAPTURE) else None
    # The annotation may ask for the next version already.
    return result if result.version == captured_version(checkpoint, status.checkpoint_id) else None


def _as_job(current: Pass, result: CaptureResult) -> JobView:
    """Return what a Job with this pod and this word would be: what is read of it is the same."""
    pod: Object = current.observed.source_pod or {}
    version: dict[str, Any] = {"annotations": {keys.ANN_ARTIFACT_VERSION: result.version}}
    template = {"metadata": version, "spec": pod.get("spec") or {}}
    metadata = {"name": current.checkpoint["metadata"]["name"], "annotations": dict(result.notes)}
    return JobView({"metadata": metadata, "spec": {"template": template}})


def _failed(status: Status, problem: Problem) -> Step:
    return Step(status.unmet(ConditionType.JOB_COMPLETED, problem).failed(problem))
