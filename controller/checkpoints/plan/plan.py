"""The state machine of a DynamoCheckpoint, as one pure function.

::

    (new) ─> Pending ─> Creating ─> Ready
               │  ^         │         │
               │  └─────────│─────────┴── a new version, or what was in the way is gone
               └────────────┴─> Failed

Each pass starts from what is there now and ends in actions, one status and a time to look again.
"""

from datetime import datetime
from typing import Final

from contract.api import keys
from contract.api.checkpoint import is_automatic, labels_of, resolve_id
from contract.api.states import ConditionType, Phase
from contract.config.storage import BadIdError, Storage, StorageError, storage_from_values
from contract.config.values import Values
from contract.pods.capture_job import InvalidTemplateError, build_capture_job
from controller.checkpoints.actions import Action, CheckJob, CreateJob, SetFinalizer, SetLabel
from controller.checkpoints.observed import Observed, Refusal, Refused, belongs_to, owner_of, wanted_job
from controller.checkpoints.plan import abandoned, adopting
from controller.checkpoints.plan.creating import follow
from controller.checkpoints.plan.deleting import has_finalizer, plan_deletion
from controller.checkpoints.plan.retry import raise_version, retry_when_due, waits_for_retry
from controller.checkpoints.plan.status import StatusDraft
from controller.checkpoints.plan.volume_claim import claim_to_make, claim_usable, look_after_artifact
from controller.checkpoints.reasons import Problem, Reason
from controller.runtime.plan import Plan
from kube.api import Object
from kube.resources import JOBS

SELF_HEALING: Final = frozenset({Reason.INVALID_ID, Reason.DUPLICATE_ID})
"""Failures that end when their cause does, without a new version."""
BEFORE_ANY_JOB: Final = frozenset({Reason.TEMPLATE_INVALID, Reason.GMS_DISABLED})
"""Failures of the object as written: a changed spec is worth another try."""
REFUSED_SECONDS: Final = 30.0
"""Seconds between tries of what the server forbids (a quota, a policy): nothing tells when that changes."""
WAIT_FOR_CLAIM_SECONDS: Final = 300.0
"""A safety net only: a claim that appears wakes its checkpoints at once."""


def plan(observed: Observed, now: datetime, values: Values) -> Plan[Action]:
    """What to do next for one checkpoint."""
    checkpoint = observed.checkpoint
    namespace = checkpoint["metadata"].get("namespace", "")
    if namespace in values.webhook.excluded_namespaces:
        return Plan()
    try:
        storage = storage_from_values(values)
    except StorageError as error:
        return _storage_invalid(checkpoint, now, error)
    if checkpoint["metadata"].get("deletionTimestamp"):
        return plan_deletion(observed, now, values, storage)
    if not values.checkpoint.enabled:
        return Plan()
    draft = StatusDraft(checkpoint, now)
    actions, requeue = _advance(observed, draft, now, values, storage)
    if is_automatic(checkpoint) and not has_finalizer(checkpoint):
        # Before anything is made, so that nothing made can be left behind.
        actions = (SetFinalizer(present=True), *actions)
    status, events = draft.finish()
    return Plan(actions, status, events, requeue)


def _advance(
    observed: Observed, draft: StatusDraft, now: datetime, values: Values, storage: Storage
) -> tuple[tuple[Action, ...], float | None]:
    checkpoint = observed.checkpoint
    was_new = not draft.phase
    if draft.phase not in set(Phase):
        draft.set(phase=Phase.PENDING.value)
    if not _identify(observed, draft):
        return _label(checkpoint, draft.checkpoint_id), None
    actions = _label(checkpoint, draft.checkpoint_id)
    if was_new:
        # One step at a time: what comes next is planned from what this one leaves.
        return actions, None
    more, requeue = _next(observed, draft, now, values, storage)
    return (*actions, *more), requeue


def _next(
    observed: Observed, draft: StatusDraft, now: datetime, values: Values, storage: Storage
) -> tuple[tuple[Action, ...], float | None]:
    """One step of a checkpoint that has an id of its own."""
    checkpoint = observed.checkpoint
    if draft.phase == Phase.CREATING and draft.job_name:
        return follow(observed, draft, now, values, storage)
    if adopting.wanted_version(checkpoint):
        return adopting.adopt(observed, draft, now, values, storage)
    _restart_where_due(checkpoint, draft)
    if abandoned.wanted_again(checkpoint, draft):
        return raise_version(checkpoint, draft), None
    if waits_for_retry(checkpoint, draft):
        return retry_when_due(checkpoint, draft, now, values)
    if draft.phase == Phase.READY:
        look_after_artifact(observed, draft, storage)
    if draft.phase in (Phase.READY, Phase.FAILED):
        return (), None
    draft.set(phase=Phase.PENDING.value)
    return _prepare(observed, draft, values, storage)


def _identify(observed: Observed, draft: StatusDraft) -> bool:
    """Settle the id; False where there is none, or where another checkpoint has it."""
    try:
        checkpoint_id = resolve_id(observed.checkpoint)
        words = "spec.identity.model is missing, so there is no checkpoint id; set it"
    except BadIdError as error:
        checkpoint_id, words = None, f"{error}; correct label {keys.LABEL_CHECKPOINT_ID}"
    if checkpoint_id is None:
        _fail_early(draft, Problem(Reason.INVALID_ID, words))
        return False
    draft.set(checkpointID=checkpoint_id, identityHash=checkpoint_id)
    other = min(
        (each for each in observed.siblings if _goes_before(each, observed.checkpoint)), key=_rank, default=None
    )
    if other is None:
        return True
    draft.set(jobName=None, createdAt=None)
    _fail_early(draft, Problem(Reason.DUPLICATE_ID, _duplicate(checkpoint_id, other, observed.checkpoint)))
    return False


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


def _goes_before(sibling: Object, checkpoint: Object) -> bool:
    return _rank(sibling) < _rank(checkpoint)


def _rank(checkpoint: Object) -> tuple[bool, str, str, str]:
    """Of two with one id, the one that has made something goes first, then the older, then the name decides."""
    metadata = checkpoint["metadata"]
    established = (checkpoint.get("status") or {}).get("phase") in (Phase.READY, Phase.CREATING)
    name, namespace = str(metadata["name"]), str(metadata.get("namespace", ""))
    return not established, str(metadata.get("creationTimestamp", "")), name, namespace


def _fail_early(draft: StatusDraft, problem: Problem) -> None:
    draft.condition(ConditionType.JOB_CREATED, met=False, reason=problem.reason, message=problem.message)
    draft.fail(problem)


def _label(checkpoint: Object, checkpoint_id: str) -> tuple[Action, ...]:
    present = labels_of(checkpoint).get(keys.LABEL_CHECKPOINT_ID)
    return () if not checkpoint_id or present == checkpoint_id else (SetLabel(keys.LABEL_CHECKPOINT_ID, checkpoint_id),)


def _restart_where_due(checkpoint: Object, draft: StatusDraft) -> None:
    """Back to Pending: for a new version, or where what made it fail is over."""
    wanted = wanted_job(checkpoint)
    if draft.job_name and wanted and draft.job_name != wanted:
        draft.start_over()
        return
    if draft.phase != Phase.FAILED:
        return
    entry = draft.condition_of(ConditionType.JOB_CREATED) or {}
    changed = entry.get("observedGeneration") != checkpoint["metadata"].get("generation")
    if entry.get("reason") in SELF_HEALING or (entry.get("reason") in BEFORE_ANY_JOB and changed):
        draft.start_over()


def _prepare(
    observed: Observed, draft: StatusDraft, values: Values, storage: Storage
) -> tuple[tuple[Action, ...], float | None]:
    """Pending: volume, then Job."""
    try:
        job = build_capture_job(observed.checkpoint, values=values, storage=storage)
    except InvalidTemplateError as error:
        _unshapeable(draft, error, wanted_job(observed.checkpoint))
        return (), None
    draft.set(jobName=job["metadata"]["name"])
    if observed.refusal is not None and observed.refusal.kind == JOBS.kind:
        return (), _refused(draft, observed.refusal)
    if observed.job is not None:
        return (), _take_up(observed, draft, observed.job)
    if not claim_usable(observed, draft, storage):
        return _check_once(observed.checkpoint, draft, job), WAIT_FOR_CLAIM_SECONDS
    claims = claim_to_make(observed, storage)
    _created(observed.checkpoint, draft)
    # Where a volume is made first, the Job is checked before it: a bad template must not leave a volume behind.
    # Without one, creating the Job is the check.
    return ((CheckJob(job), *claims, CreateJob(job)) if claims else (CreateJob(job),)), None


def _check_once(checkpoint: Object, draft: StatusDraft, job: Object) -> tuple[Action, ...]:
    """While waiting for the volume, tell at least whether the template is any good; once for each generation."""
    entry = draft.condition_of(ConditionType.TEMPLATE_VALID) or {}
    if entry.get("status") == "True" and entry.get("observedGeneration") == checkpoint["metadata"].get("generation"):
        return ()
    draft.condition(ConditionType.TEMPLATE_VALID, met=True, reason=Reason.TEMPLATE_ACCEPTED)
    return (CheckJob(job),)


def _created(checkpoint: Object, draft: StatusDraft) -> None:
    draft.condition(ConditionType.TEMPLATE_VALID, met=True, reason=Reason.TEMPLATE_ACCEPTED)
    draft.condition(ConditionType.JOB_CREATED, met=True, reason=Reason.JOB_CREATED, message=draft.job_name)
    draft.set(phase=Phase.CREATING.value)
    if is_automatic(checkpoint):
        draft.set(attempts=draft.attempts + 1)


def _take_up(observed: Observed, draft: StatusDraft, job: Object) -> float | None:
    """The Job is there: made by a pass that could not write its status any more, or not ours at all."""
    if belongs_to(job, observed.checkpoint):
        _created(observed.checkpoint, draft)
        return None
    return _refused(draft, Refusal(JOBS.kind, Refused.NOT_OURS, owner_of(job)))


def _refused(draft: StatusDraft, refusal: Refusal) -> float | None:
    """The server did not take the Job: for good where it is malformed, else until that changes."""
    if refusal.how == Refused.INVALID:
        words = (
            f"the API server refuses the Job made from spec.job.podTemplateSpec: {refusal.message}; "
            "correct the DynamoCheckpoint, it is tried again by itself"
        )
        problem = Problem(Reason.TEMPLATE_INVALID, words)
        draft.condition(ConditionType.TEMPLATE_VALID, met=False, reason=problem.reason, message=problem.message)
        _fail_early(draft, problem)
        return None
    if refusal.how == Refused.NOT_OURS:
        words = (
            f"Job {draft.job_name} exists and is not this checkpoint's, its owner is {refusal.message}; delete the Job"
        )
        problem = Problem(Reason.JOB_NOT_OURS, words)
    else:
        words = f"Job {draft.job_name} may not be created: {refusal.message}; it is tried again every 30 s"
        problem = Problem(Reason.JOB_FORBIDDEN, words)
    draft.condition(ConditionType.JOB_CREATED, met=False, reason=problem.reason, message=problem.message)
    draft.wait(problem)
    return REFUSED_SECONDS


def _unshapeable(draft: StatusDraft, error: InvalidTemplateError, job_name: str) -> None:
    reason = Reason.GMS_DISABLED if error.field.startswith("spec.gpuMemoryService") else Reason.TEMPLATE_INVALID
    problem = Problem(reason, str(error))
    draft.set(jobName=job_name)
    draft.condition(ConditionType.TEMPLATE_VALID, met=False, reason=reason, message=problem.message)
    _fail_early(draft, problem)


def _storage_invalid(checkpoint: Object, now: datetime, error: StorageError) -> Plan[Action]:
    """The installation's own values are wrong: say so where nothing is Ready yet, keep what is."""
    draft = StatusDraft(checkpoint, now)
    if checkpoint["metadata"].get("deletionTimestamp") or draft.phase in (Phase.READY, Phase.FAILED, Phase.CREATING):
        return Plan()
    draft.set(phase=Phase.PENDING.value)
    problem = Problem(Reason.STORAGE_INVALID, f"chart value {error}")
    draft.condition(ConditionType.STORAGE_READY, met=False, reason=problem.reason, message=problem.message)
    draft.wait(problem)
    status, events = draft.finish()
    return Plan((), status, events)
