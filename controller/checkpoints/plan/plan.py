"""The state machine of a DynamoCheckpoint, as one pure function.

::

    (new) ─> Pending ─> Creating ─> Ready
               │  ^         │         │
               │  └─────────│─────────┴── a new version, or what was in the way is removed
               └────────────┴─> Failed

Each pass starts from what is there now and ends in actions, one status and a time to look again.
"""

from dataclasses import replace
from datetime import datetime
from typing import Final

from contract.api import keys
from contract.api.checkpoint import is_automatic, labels_of, resolve_id, source_pod
from contract.api.states import CheckpointReason, ConditionType, Phase
from contract.config.storage import BadIdError, StorageError, storage_from_values
from contract.config.values import Values
from contract.pods.capture_job import InvalidTemplateError, UnsupportedAcceleratorError, build_capture_job
from controller.checkpoints.actions import Action, CheckJob, CreateJob, SetFinalizer, SetLabel
from controller.checkpoints.observed import Observed, Pass, Refusal, Refused, belongs_to, owner_of, wanted_job
from controller.checkpoints.plan import abandoned, adopting, running
from controller.checkpoints.plan.compatible import check_nodes
from controller.checkpoints.plan.creating import follow
from controller.checkpoints.plan.deleting import has_finalizer, plan_deletion
from controller.checkpoints.plan.retry import raise_version, retry_when_due, waits_for_retry
from controller.checkpoints.plan.status import Status, Step
from controller.checkpoints.plan.volume_claim import check_artifact, check_storage, claim_to_make
from controller.checkpoints.reasons import Problem
from controller.runtime.plan import Plan
from kube.api import Object
from kube.resources import JOBS

SELF_HEALING: Final = frozenset({CheckpointReason.INVALID_ID, CheckpointReason.DUPLICATE_ID})
"""Failures that end when their cause does, without a new version."""
BEFORE_ANY_JOB: Final = frozenset(
    {CheckpointReason.TEMPLATE_INVALID, CheckpointReason.GMS_DISABLED, CheckpointReason.ACCELERATOR_UNSUPPORTED}
)
"""Failures of the object as written: a changed spec is worth another try."""
REFUSED_SECONDS: Final = 30.0
"""Seconds between tries of what the server forbids (a quota, a policy): nothing signals when that changes."""
WAIT_FOR_CLAIM_SECONDS: Final = 300.0
"""A safety net only: a claim that appears wakes its checkpoints at once."""


def plan(observed: Observed, now: datetime, values: Values) -> Plan[Action]:
    """Return what to do next for one checkpoint."""
    checkpoint = observed.checkpoint
    namespace = checkpoint["metadata"].get("namespace", "")
    if namespace in values.webhook.excluded_namespaces:
        return Plan()
    try:
        storage = storage_from_values(values)
    except StorageError as error:
        return _storage_invalid(checkpoint, now, error)
    current = Pass(observed, now, values, storage)
    # Before the switch below: what is switched off must still be deletable, with its artifact.
    if checkpoint["metadata"].get("deletionTimestamp"):
        return plan_deletion(current)
    if not values.checkpoint.enabled:
        return Plan()
    step = _advance(current, Status.of(checkpoint, now))
    actions = step.actions
    if is_automatic(checkpoint) and not has_finalizer(checkpoint):
        # Before anything is made, so that nothing made can be left behind.
        actions = (SetFinalizer(present=True), *actions)
    status, events = step.status.finish()
    return Plan(actions, status, events, step.requeue)


def _advance(current: Pass, status: Status) -> Step:
    checkpoint = current.checkpoint
    was_new = not status.phase
    if status.phase not in set(Phase):
        status = status.with_fields(phase=Phase.PENDING.value)
    status, identified = _identify(current.observed, status)
    label = _label(checkpoint, status.checkpoint_id)
    if was_new or not identified:
        # One step at a time: what comes next is planned from what this one leaves.
        return Step(status, label)
    step = _next(current, status)
    return replace(step, actions=(*label, *step.actions))


def _next(current: Pass, status: Status) -> Step:
    """Make one step of a checkpoint that has an id of its own; the first question that applies decides."""
    checkpoint = current.checkpoint
    if status.phase == Phase.CREATING and status.job_name:
        # Before all else: a capture that runs is brought to its end, whatever was asked for meanwhile.
        return running.follow(current, status) if source_pod(checkpoint) else follow(current, status)
    if adopting.wanted_version(checkpoint):
        return adopting.adopt(current, status)
    status = _restarted_if_due(current, status)
    if abandoned.wanted_again(checkpoint, status):
        return raise_version(checkpoint, status)
    if waits_for_retry(checkpoint, status):
        return retry_when_due(current, status)
    if status.phase in (Phase.READY, Phase.FAILED):
        return _ended(current, status)
    status = status.with_fields(phase=Phase.PENDING.value)
    return _prepare_running(current, status) if source_pod(checkpoint) else _prepare(current, status)


def _identify(observed: Observed, status: Status) -> tuple[Status, bool]:
    """Settle the id; False if there is none, or if another checkpoint has it."""
    try:
        checkpoint_id = resolve_id(observed.checkpoint)
        words = "spec.identity.model is missing, so there is no checkpoint id; set it"
    except BadIdError as error:
        checkpoint_id, words = None, f"{error}; correct label {keys.LABEL_CHECKPOINT_ID}"
    if checkpoint_id is None:
        return _fail_early(status, Problem(CheckpointReason.INVALID_ID, words)), False
    status = status.with_fields(checkpointID=checkpoint_id, identityHash=checkpoint_id)
    rank = _rank(observed.checkpoint)
    other = min((each for each in observed.siblings if _rank(each) < rank), key=_rank, default=None)
    if other is None:
        return status, True
    problem = Problem(CheckpointReason.DUPLICATE_ID, _duplicate(checkpoint_id, other, observed.checkpoint))
    # Without the Job's name: the Job of that name is the other one's.
    return _fail_early(status.with_fields(jobName=None, createdAt=None), problem), False


def _duplicate(checkpoint_id: str, other: Object, checkpoint: Object) -> str:
    theirs, ours = (each["metadata"].get("namespace", "") for each in (other, checkpoint))
    name = other["metadata"]["name"]
    if theirs == ours:
        return (
            f"DynamoCheckpoint {name} already has the checkpoint id {checkpoint_id}; "
            "use that one, delete it, or change spec.identity in a new object"
        )
    return (
        f"DynamoCheckpoint {theirs}/{name} already has the checkpoint id {checkpoint_id}, and with "
        "storage.accessMode=agentMount all namespaces share one volume, so both would have one directory; "
        f"choose another id with label {keys.LABEL_CHECKPOINT_ID} in a new object, or use podMount"
    )


def _rank(checkpoint: Object) -> tuple[bool, str, str, str]:
    """Order those with one id: the one that has made something goes first, then the older, then the name decides."""
    metadata = checkpoint["metadata"]
    established = (checkpoint.get("status") or {}).get("phase") in (Phase.READY, Phase.CREATING)
    name, namespace = str(metadata["name"]), str(metadata.get("namespace", ""))
    return not established, str(metadata.get("creationTimestamp", "")), name, namespace


def _fail_early(status: Status, problem: Problem) -> Status:
    return status.unmet(ConditionType.JOB_CREATED, problem).failed(problem)


def _label(checkpoint: Object, checkpoint_id: str) -> tuple[Action, ...]:
    present = labels_of(checkpoint).get(keys.LABEL_CHECKPOINT_ID)
    return () if not checkpoint_id or present == checkpoint_id else (SetLabel(keys.LABEL_CHECKPOINT_ID, checkpoint_id),)


def _ended(current: Pass, status: Status) -> Step:
    if status.phase == Phase.FAILED:
        return Step(status)
    status, problem = check_nodes(current, check_artifact(current, status)), running.not_requested(current, status)
    return Step(status) if problem is None else Step(status.waiting(problem), requeue=running.REQUEST_SECONDS)


def _restarted_if_due(current: Pass, status: Status) -> Status:
    """Back to Pending: for a new version, or if what made it fail is over."""
    checkpoint = current.checkpoint
    wanted = wanted_job(checkpoint)
    if running.not_requested(current, status) is not None:
        return status
    if status.job_name and wanted and status.job_name != wanted:
        return status.restarted()
    if status.phase != Phase.FAILED:
        return status
    entry = status.condition(ConditionType.JOB_CREATED) or {}
    changed = entry.get("observedGeneration") != checkpoint["metadata"].get("generation")
    if entry.get("reason") in SELF_HEALING or (entry.get("reason") in BEFORE_ANY_JOB and changed):
        return status.restarted()
    return status


def _prepare(current: Pass, status: Status) -> Step:
    """Pending: volume, then Job."""
    observed, checkpoint = current.observed, current.checkpoint
    try:
        job = build_capture_job(
            checkpoint, values=current.values, storage=current.storage, templates=observed.claim_templates
        )
    except InvalidTemplateError as error:
        return Step(_invalid_template(status.with_fields(jobName=wanted_job(checkpoint)), error))
    status = status.with_fields(jobName=job["metadata"]["name"])
    if observed.refusal is not None and observed.refusal.kind == JOBS.kind:
        return _refused(status, observed.refusal)
    if observed.job is not None:
        return _take_up(checkpoint, status, observed.job)
    if missing := sorted(name for name, found in observed.claim_templates.items() if found is None):
        return _claim_template_missing(current, status, missing[0])
    status, usable = check_storage(current, status)
    if not usable:
        status, actions = _check_once(checkpoint, status, job)
        return Step(status, actions, WAIT_FOR_CLAIM_SECONDS)
    claims = claim_to_make(current)
    # If a volume is made first, the Job is checked before it: a bad template must not leave a volume behind.
    # Without one, creating the Job is the check.
    actions = (CheckJob(job), *claims, CreateJob(job)) if claims else (CreateJob(job),)
    return Step(_created(checkpoint, status), actions)


def _prepare_running(current: Pass, status: Status) -> Step:
    """Pending, of a running pod: its template must be one that a later pod can have."""
    status = status.with_fields(jobName=wanted_job(current.checkpoint))
    try:
        build_capture_job(current.checkpoint, values=current.values, storage=current.storage)
    except InvalidTemplateError as error:
        return Step(_invalid_template(status, error))
    return running.begin(current, status)


def _claim_template_missing(current: Pass, status: Status, name: str) -> Step:
    """Wait for it: without it the Job's pod would stay without a node, and nothing would say for what."""
    where = f"{current.checkpoint['metadata'].get('namespace', '')}/{name}"
    words = (
        f"ResourceClaimTemplate {where}, which spec.job.podTemplateSpec.spec.resourceClaims names, does not exist; "
        "create it, or correct the name; it is looked for again every 30 s"
    )
    problem = Problem(CheckpointReason.CLAIM_TEMPLATE_MISSING, words)
    return Step(status.unmet(ConditionType.JOB_CREATED, problem).waiting(problem), requeue=REFUSED_SECONDS)


def _check_once(checkpoint: Object, status: Status, job: Object) -> tuple[Status, tuple[Action, ...]]:
    """While waiting for the volume, say at least whether the template is any good; once for each generation."""
    entry = status.condition(ConditionType.TEMPLATE_VALID) or {}
    if entry.get("status") == "True" and entry.get("observedGeneration") == checkpoint["metadata"].get("generation"):
        return status, ()
    accepted = status.with_condition(ConditionType.TEMPLATE_VALID, met=True, reason=CheckpointReason.TEMPLATE_ACCEPTED)
    return accepted, (CheckJob(job),)


def _created(checkpoint: Object, status: Status) -> Status:
    attempts = {"attempts": status.attempts + 1} if is_automatic(checkpoint) else {}
    return (
        status.with_condition(ConditionType.TEMPLATE_VALID, met=True, reason=CheckpointReason.TEMPLATE_ACCEPTED)
        .with_condition(
            ConditionType.JOB_CREATED, met=True, reason=CheckpointReason.JOB_CREATED, message=status.job_name
        )
        .with_fields(phase=Phase.CREATING.value, **attempts)
    )


def _take_up(checkpoint: Object, status: Status, job: Object) -> Step:
    """Handle a Job that is there already: made by a pass that could not write its status any more, or not ours."""
    if belongs_to(job, checkpoint):
        return Step(_created(checkpoint, status))
    return _refused(status, Refusal(JOBS.kind, Refused.NOT_OURS, owner_of(job)))


def _refused(status: Status, refusal: Refusal) -> Step:
    """Handle a Job that the server refused: for good if it is malformed, else until that changes."""
    if refusal.how == Refused.INVALID:
        words = (
            f"the API server refuses the Job made from spec.job.podTemplateSpec: {refusal.message}; "
            "correct the DynamoCheckpoint, it is tried again by itself"
        )
        problem = Problem(CheckpointReason.TEMPLATE_INVALID, words)
        return Step(_fail_early(status.unmet(ConditionType.TEMPLATE_VALID, problem), problem))
    if refusal.how == Refused.NOT_OURS:
        words = (
            f"Job {status.job_name} exists and is not this checkpoint's, its owner is {refusal.message}; delete the Job"
        )
        problem = Problem(CheckpointReason.JOB_NOT_OURS, words)
    else:
        words = f"Job {status.job_name} may not be created: {refusal.message}; it is tried again every 30 s"
        problem = Problem(CheckpointReason.JOB_FORBIDDEN, words)
    return Step(status.unmet(ConditionType.JOB_CREATED, problem).waiting(problem), requeue=REFUSED_SECONDS)


def _invalid_template(status: Status, error: InvalidTemplateError) -> Status:
    reason = CheckpointReason.TEMPLATE_INVALID
    if isinstance(error, UnsupportedAcceleratorError):
        reason = CheckpointReason.ACCELERATOR_UNSUPPORTED
    elif error.field.startswith("spec.gpuMemoryService"):
        reason = CheckpointReason.GMS_DISABLED
    problem = Problem(reason, str(error))
    return _fail_early(status.unmet(ConditionType.TEMPLATE_VALID, problem), problem)


def _storage_invalid(checkpoint: Object, now: datetime, error: StorageError) -> Plan[Action]:
    """Handle wrong values of the installation: say so if nothing is Ready yet, keep what is."""
    status = Status.of(checkpoint, now)
    if checkpoint["metadata"].get("deletionTimestamp") or status.phase in (Phase.READY, Phase.FAILED, Phase.CREATING):
        return Plan()
    problem = Problem(CheckpointReason.STORAGE_INVALID, f"chart value {error}")
    pending = status.with_fields(phase=Phase.PENDING.value)
    changed, events = pending.unmet(ConditionType.STORAGE_READY, problem).waiting(problem).finish()
    return Plan((), changed, events)
