"""A checkpoint in phase Creating: what its Job, the agent's word on it and its pod add up to."""

from datetime import datetime
from typing import Final

from contract import keys
from contract.checkpoint import annotations_of, captured_image, job_spec, job_target
from contract.states import CaptureStatus, ConditionType, Phase
from contract.storage import BadIdError, Storage, artifact_dir
from contract.values import Values
from controller import diagnosis
from controller.actions import SetDeadline
from controller.draft import Draft
from controller.observed import Observed, belongs_to
from controller.reasons import Problem, Reason
from kube.seam import Object
from kube.times import format_time

VERDICT_PATIENCE: Final = 10.0
"""Seconds after a Job's completion in which the agent's annotation may still be on its way."""
AGENT_POLL: Final = 1.0
"""Seconds between looks while an agent holds its Lease."""
WORTH_EXTENDING: Final = 60
"""Seconds in the scheduler's queue that are worth a write to give back."""


def follow(
    observed: Observed, draft: Draft, now: datetime, values: Values, storage: Storage
) -> tuple[tuple[SetDeadline, ...], float | None]:
    """One pass over a checkpoint whose Job should exist; answers actions and when to look again."""
    job = observed.job
    if job is None or not belongs_to(job, observed.checkpoint):
        _job_gone(draft)
        return (), None
    verdict = annotations_of(job).get(keys.ANN_CHECKPOINT_STATUS, "")
    complete, failed = diagnosis.is_true(job, "Complete"), diagnosis.is_true(job, "Failed")
    if verdict == CaptureStatus.FAILED:
        _fail(draft, Reason.VERIFICATION_FAILED if complete else Reason.JOB_FAILED, _agents_words(observed, job))
    elif complete and verdict == CaptureStatus.COMPLETED:
        _ready(observed.checkpoint, job, draft, now, values, storage)
    elif complete:
        return (), _await_verdict(observed, job, draft, now)
    elif failed:
        _fail(draft, Reason.JOB_FAILED, _jobs_words(observed, job))
    else:
        return _underway(observed, job, draft, now)
    return (), None


def _job_gone(draft: Draft) -> None:
    problem = Problem(
        Reason.JOB_DELETED,
        f"Job {draft.job_name} is gone, and with it the capture; {_retry_hint()}",
    )
    draft.condition(ConditionType.JOB_CREATED, met=False, reason=problem.reason, message=problem.message)
    draft.fail(problem)


def _retry_hint() -> str:
    return f"to try again, raise annotation {keys.ANN_ARTIFACT_VERSION} of the DynamoCheckpoint"


def _fail(draft: Draft, reason: Reason, words: str) -> None:
    problem = Problem(reason, f"{words}; {_retry_hint()}")
    draft.condition(ConditionType.JOB_COMPLETED, met=False, reason=reason, message=problem.message)
    draft.fail(problem)


def _agents_words(observed: Observed, job: Object) -> str:
    said = annotations_of(job).get(keys.ANN_CAPTURE_MESSAGE, "").strip()
    if said:
        return said
    pod = diagnosis.newest(observed.pods)
    return (pod and diagnosis.exited(pod)) or "the snapshot agent reports that the capture failed; see its log"


def _jobs_words(observed: Observed, job: Object) -> str:
    """Why a Job failed without a word from the agent: the pod knows more than the Job."""
    pod = diagnosis.newest(observed.pods)
    if pod is not None:
        stuck = diagnosis.not_started(pod) or diagnosis.scheduling(pod)
        if stuck is not None:
            return stuck.message
        if words := diagnosis.exited(pod):
            return f"{words}: the worker ended before it was captured"
    entry = diagnosis.condition(job, "Failed") or {}
    why = ": ".join(str(entry[key]) for key in ("reason", "message") if entry.get(key))
    return f"Job {job['metadata']['name']} failed" + (f": {why}" if why else "")


def _ready(checkpoint: Object, job: Object, draft: Draft, now: datetime, values: Values, storage: Storage) -> None:
    notes = annotations_of(job)
    size = notes.get(keys.ANN_ARTIFACT_SIZE, "")
    image = _jobs_image(checkpoint, job) or captured_image(checkpoint, values)
    draft.set(
        phase=Phase.READY.value,
        createdAt=format_time(now),
        location=_location(draft, job, storage),
        storageType=values.storage.type,
        size=int(size) if size.isdecimal() else None,
        manifestDigest=notes.get(keys.ANN_MANIFEST_DIGEST),
        image={"reference": image} if image else None,
    )
    draft.condition(ConditionType.JOB_COMPLETED, met=True, reason=Reason.JOB_SUCCEEDED)
    if (draft.condition_of(ConditionType.SCHEDULED) or {}).get("status") == "False":
        draft.condition(ConditionType.SCHEDULED, met=True, reason=Reason.SCHEDULED)


def _jobs_image(checkpoint: Object, job: Object) -> str:
    """The image that the Job really ran, whatever the template says by now."""
    containers = job.get("spec", {}).get("template", {}).get("spec", {}).get("containers") or ()
    target = job_target(checkpoint)
    return next((str(each.get("image", "")) for each in containers if each.get("name") == target), "")


def _location(draft: Draft, job: Object, storage: Storage) -> str | None:
    """Where the artifact of this Job lies; the version is the Job's, the checkpoint's may have moved on."""
    template = job.get("spec", {}).get("template", {})
    version = annotations_of(template).get(keys.ANN_ARTIFACT_VERSION, "").strip()
    checkpoint_id = draft.checkpoint_id
    version = version or draft.job_name.removeprefix(f"checkpoint-job-{checkpoint_id}-")
    try:
        return str(artifact_dir(storage.base_path, checkpoint_id, version))
    except BadIdError:
        return None


def _await_verdict(observed: Observed, job: Object, draft: Draft, now: datetime) -> float | None:
    if diagnosis.agent_active(observed.lease, now) or _just_completed(job, now):
        return AGENT_POLL
    words = f"Job {job['metadata']['name']} completed, but no snapshot agent vouched for the artifact"
    _fail(draft, Reason.VERIFICATION_FAILED, words)
    return None


def _just_completed(job: Object, now: datetime) -> bool:
    ended = diagnosis.moment((job.get("status") or {}).get("completionTime"))
    return ended is not None and (now - ended).total_seconds() < VERDICT_PATIENCE


def _underway(
    observed: Observed, job: Object, draft: Draft, now: datetime
) -> tuple[tuple[SetDeadline, ...], float | None]:
    pod = diagnosis.newest(observed.pods)
    if pod is None:
        problem = diagnosis.no_pod(job, observed.job_events, now)
        if problem is not None:
            draft.wait(problem)
        return (), None if draft.problem else diagnosis.POD_PATIENCE
    unscheduled, soon = _scheduled(pod, draft, now)
    silent, seconds = diagnosis.no_agent(job, pod, now, observed.lease)
    problem = unscheduled or diagnosis.not_started(pod) or silent
    if problem is not None:
        draft.wait(problem)
    extended, look_again = _deadline(observed.checkpoint, job, pod, now)
    waits = [each for each in (soon, seconds, look_again) if each is not None]
    return extended, min(waits, default=None)


def _scheduled(pod: Object, draft: Draft, now: datetime) -> tuple[Problem | None, float | None]:
    """State condition Scheduled at once; answer the problem when it has lasted, else when that will be."""
    problem = diagnosis.scheduling(pod)
    if problem is None:
        if diagnosis.is_true(pod, "PodScheduled"):
            node = (pod.get("spec") or {}).get("nodeName", "")
            draft.condition(ConditionType.SCHEDULED, met=True, reason=Reason.SCHEDULED, message=node)
        return None, None
    draft.condition(ConditionType.SCHEDULED, met=False, reason=problem.reason, message=problem.message)
    left = diagnosis.SCHEDULER_PATIENCE - diagnosis.unscheduled_for(pod, now)
    return (None, left) if left > 0 else (problem, None)


def _deadline(
    checkpoint: Object, job: Object, pod: Object, now: datetime
) -> tuple[tuple[SetDeadline, ...], float | None]:
    """Give back the time that the pod spent waiting for a node: the deadline is for the capture."""
    started = diagnosis.moment((job.get("status") or {}).get("startTime"))
    current = job.get("spec", {}).get("activeDeadlineSeconds")
    entry = diagnosis.condition(pod, "PodScheduled")
    if started is None or current is None or entry is None:
        return (), None
    allowed = job_spec(checkpoint).get("activeDeadlineSeconds") or keys.DEFAULT_ACTIVE_DEADLINE_SECONDS
    scheduled = entry.get("status") == "True"
    until = (diagnosis.moment(entry.get("lastTransitionTime")) or started) if scheduled else now
    waited = max(0, int((until - started).total_seconds()))
    if scheduled:
        wanted = allowed + waited
        return ((SetDeadline(job, wanted),) if wanted - current > WORTH_EXTENDING else ()), None
    # Half of the allowance is used up: fill it again, and look again when that half is gone.
    left = current - waited
    if left <= allowed // 2:
        return (SetDeadline(job, waited + allowed),), allowed / 2
    return (), float(left - allowed // 2)
