"""A checkpoint in phase Creating: what its Job, the agent's word on it and its pod add up to."""

from dataclasses import replace
from datetime import datetime
from pathlib import PurePosixPath
from typing import Final

from contract.api import keys
from contract.api.checkpoint import job_spec
from contract.api.objects import JobView, PodView
from contract.api.states import LASTING, AgentReason, CaptureStatus, CheckpointReason, ConditionType, Phase
from contract.api.times import format_time
from contract.config.quantities import readable
from contract.config.storage import BadIdError, Storage, artifact_dir
from controller.checkpoints.actions import SetDeadline
from controller.checkpoints.capture_result import agent_reason, image_of, proof_of, size_of, source_of, with_code
from controller.checkpoints.diagnose import pods
from controller.checkpoints.observed import Pass, belongs_to
from controller.checkpoints.plan import abandoned
from controller.checkpoints.plan.retry import capture_failed
from controller.checkpoints.plan.status import Status, Step
from controller.checkpoints.plan.volume_claim import agents_storage, claim_of
from controller.checkpoints.reasons import Problem, note
from kube.api import Object
from kube.recorder import EventSpec

VERDICT_PATIENCE: Final = 10.0
"""Seconds after a Job's completion in which the agent's annotation may still be on its way."""
AGENT_POLL: Final = 1.0
"""Seconds between looks while an agent holds its Lease."""
ADOPT_COMMAND: Final = "`snapshotctl adopt {name}`"
"""What takes over an artifact that is in storage already."""
WORTH_EXTENDING: Final = 60
"""Seconds in the scheduler's queue that are worth a write to give back."""


def follow(current: Pass, status: Status) -> Step:
    """Plan one pass over a checkpoint whose Job should exist."""
    left = abandoned.grace_left(current, status)
    if left == 0:
        # Also if the Job no longer exists: the pass that ended it may not have come to write the status.
        return abandoned.give_up(current, status)
    step = _follow(current, status)
    return replace(step, requeue=_soonest(step.requeue, left))


def _follow(current: Pass, status: Status) -> Step:
    job = current.job
    if job is None or not belongs_to(job.raw, current.checkpoint):
        problem = Problem(
            CheckpointReason.JOB_DELETED, f"Job {status.job_name} no longer exists, and with it the capture"
        )
        return capture_failed(current, status.unmet(ConditionType.JOB_CREATED, problem), problem)
    verdict = job.annotations.get(keys.ANN_CHECKPOINT_STATUS, "")
    # The agent's word goes before the Job's: it knows why.
    if verdict == CaptureStatus.FAILED:
        reason = CheckpointReason.VERIFICATION_FAILED if job.is_complete else CheckpointReason.JOB_FAILED
        problem = Problem(reason, _agents_words(current, job))
        return _fail(current, status, problem, lasting=agent_reason(job.raw) in LASTING)
    if job.is_complete and verdict == CaptureStatus.COMPLETED:
        return Step(ready(current, status, job, CheckpointReason.JOB_SUCCEEDED))
    if job.is_complete:
        return _await_verdict(current, status, job)
    if job.is_failed:
        return _fail(current, status, Problem(CheckpointReason.JOB_FAILED, _jobs_words(current, job)))
    return _underway(current, status, job)


def _fail(current: Pass, status: Status, problem: Problem, *, lasting: bool = False) -> Step:
    return capture_failed(current, status.unmet(ConditionType.JOB_COMPLETED, problem), problem, lasting=lasting)


def _soonest(*waits: float | None) -> float | None:
    return min((each for each in waits if each is not None), default=None)


def _agents_words(current: Pass, job: JobView) -> str:
    said, pod = job.annotations.get(keys.ANN_CAPTURE_MESSAGE, "").strip(), current.pod
    reason = agent_reason(job.raw)
    if said and reason == AgentReason.ARTIFACT_EXISTS and "snapshotctl adopt" not in said:
        name = current.checkpoint["metadata"]["name"]
        return f"{said}; to take over the artifact that is there: {ADOPT_COMMAND.format(name=name)}"
    if said and reason == AgentReason.WORKER_EXITED:
        # The agent sees that the container ended; why it was ended, or that it never began, others know.
        stuck = pods.not_started(pod) if pod is not None else None
        return stuck.message if stuck is not None else pods.out_of_time(job) + said
    if said:
        return with_code(said, reason)
    return (pod and pods.exited(pod)) or "the snapshot agent reports that the capture failed; see its log"


def _jobs_words(current: Pass, job: JobView) -> str:
    """Say why a Job failed without a word from the agent: the pod knows more than the Job."""
    pod = current.pod
    if pod is not None:
        stuck = pods.not_started(pod) or pods.scheduling(pod)
        if stuck is not None:
            return stuck.message
        if words := pods.exited(pod):
            return f"{pods.out_of_time(job)}{words}: the worker ended before it was captured"
    failure = job.conditions["Failed"]
    why = ": ".join(word for word in (failure.reason, failure.message) if word)
    return f"Job {job.name} failed" + (f": {why}" if why else "")


def ready(current: Pass, status: Status, job: JobView, reason: CheckpointReason) -> Status:
    """Take over what the agent says of a capture that is done."""
    created = format_time(current.now)
    size, digest = size_of(job.raw), job.annotations.get(keys.ANN_MANIFEST_DIGEST)
    location, image = _location(status, job, current.storage), image_of(current.checkpoint, job.raw, current.values)
    status = status.with_fields(
        phase=Phase.READY.value,
        createdAt=created,
        location=location,
        storageType=current.values.storage.type,
        size=size,
        manifestDigest=digest,
        proof=proof_of(job.raw).value,
        storageClaim=claim_of(current),
        image=image,
        source=source_of(job.raw),
    )
    if location and digest:
        entry = {"version": PurePosixPath(location).name, "manifestDigest": digest, "createdAt": created}
        more = {"size": size, "image": image}
        status = status.with_version(entry | {field: value for field, value in more.items() if value is not None})
    status = status.with_condition(ConditionType.JOB_COMPLETED, met=True, reason=reason)
    if larger := _larger_than_page_cache(size, current.values.daemonset.page_cache):
        status = status.with_event(larger)
    if (status.condition(ConditionType.SCHEDULED) or {}).get("status") == "False":
        # The pod was scheduled and captured between two looks; "not scheduled" must not stay beside Ready.
        return status.with_condition(ConditionType.SCHEDULED, met=True, reason=CheckpointReason.SCHEDULED)
    return status


def _larger_than_page_cache(size: int | None, most: int | None) -> EventSpec | None:
    if size is None or most is None or size <= most:
        return None
    words = (
        f"the artifact has {readable(size)}, and a node keeps {readable(most)} of artifacts in page cache: every "
        "restore reads storage. Take daemonset.resources.limits.memory away, or raise it (docs/operating.md)"
    )
    return note(CheckpointReason.LARGER_THAN_PAGE_CACHE, words)


def _location(status: Status, job: JobView, storage: Storage) -> str | None:
    """Return the path of the artifact of this Job; the version is the Job's, the checkpoint's may have moved on."""
    version = job.template_annotations.get(keys.ANN_ARTIFACT_VERSION, "").strip()
    checkpoint_id = status.checkpoint_id
    version = version or status.job_name.removeprefix(f"checkpoint-job-{checkpoint_id}-")
    try:
        return str(artifact_dir(storage.base_path, checkpoint_id, version))
    except BadIdError:
        return None


def _await_verdict(current: Pass, status: Status, job: JobView) -> Step:
    now = current.now
    just_completed = job.completed is not None and (now - job.completed).total_seconds() < VERDICT_PATIENCE
    if just_completed or pods.agent_active(current.observed.lease, now):
        return Step(status, requeue=AGENT_POLL)
    words = f"Job {job.name} completed, but no snapshot agent vouched for the artifact"
    return _fail(current, status, Problem(CheckpointReason.VERIFICATION_FAILED, words))


def _underway(current: Pass, status: Status, job: JobView) -> Step:
    now, pod = current.now, current.pod
    status, without_agent = agents_storage(current, status)
    if pod is None:
        missing = pods.no_pod(job, current.observed.job_events, now)
        extended, look_again = _deadline_without_pod(current.checkpoint, job, now)
        soon = None if missing else pods.POD_PATIENCE
        return Step(status.waiting(missing or without_agent), extended, _soonest(soon, look_again))
    status, unscheduled, soon = _scheduled(status, pod, now)
    silent, seconds = pods.no_agent(job, pod, now, current.observed.lease)
    # The nearest cause first: a container that cannot start explains all that comes after it.
    problem = pods.not_started(pod) or without_agent or unscheduled or silent
    extended, look_again = _deadline(current.checkpoint, job, pod, now)
    return Step(status.waiting(problem), extended, _soonest(soon, seconds, look_again))


def _scheduled(status: Status, pod: PodView, now: datetime) -> tuple[Status, Problem | None, float | None]:
    """State condition Scheduled at once; answer the problem when it has lasted, else when that will be."""
    problem = pods.scheduling(pod)
    if problem is not None:
        left = pods.SCHEDULER_PATIENCE - pods.unscheduled_for(pod, now)
        status = status.unmet(ConditionType.SCHEDULED, problem)
        return (status, None, left) if left > 0 else (status, problem, None)
    if pod.is_true("PodScheduled"):
        status = status.with_condition(
            ConditionType.SCHEDULED, met=True, reason=CheckpointReason.SCHEDULED, message=pod.node
        )
    return status, None, None


def _deadline(
    checkpoint: Object, job: JobView, pod: PodView, now: datetime
) -> tuple[tuple[SetDeadline, ...], float | None]:
    """Give back the time that the pod spent waiting for a node: the deadline is for the capture."""
    entry = pod.conditions.get("PodScheduled")
    if entry is None:
        return (), None
    if not entry.is_true:
        return _deadline_without_pod(checkpoint, job, now)
    if job.started is None or job.deadline is None:
        return (), None
    waited = max(0, int(((entry.since or job.started) - job.started).total_seconds()))
    wanted = _allowed(checkpoint) + waited
    return ((SetDeadline(job.raw, wanted),) if wanted - job.deadline > WORTH_EXTENDING else ()), None


def _deadline_without_pod(
    checkpoint: Object, job: JobView, now: datetime
) -> tuple[tuple[SetDeadline, ...], float | None]:
    """While no pod runs: refill the allowance when half of it is used up, and look again at the next half."""
    if job.started is None or job.deadline is None:
        return (), None
    allowed, waited = _allowed(checkpoint), max(0, int((now - job.started).total_seconds()))
    left = job.deadline - waited
    if left <= allowed // 2:
        return (SetDeadline(job.raw, waited + allowed),), allowed / 2
    return (), float(left - allowed // 2)


def _allowed(checkpoint: Object) -> int:
    return int(job_spec(checkpoint).get("activeDeadlineSeconds") or keys.DEFAULT_ACTIVE_DEADLINE_SECONDS)
