"""A checkpoint that is being deleted: its artifacts go first if the system made them.

Only automatic checkpoints carry our finalizer. What people checkpoint by hand stays on the volume until they remove
it: deleting a small object must not destroy the work of hours by surprise.
"""

from datetime import datetime
from typing import Final

from contract.api import keys
from contract.api.checkpoint import id_of
from contract.api.objects import JobView
from contract.api.states import CheckpointReason, Phase
from controller.checkpoints.actions import Action, CreateJob, DeleteJob, SetFinalizer
from controller.checkpoints.diagnose import pods
from controller.checkpoints.observed import Pass, Refused
from controller.checkpoints.plan.adopting import store_namespace
from controller.checkpoints.reasons import note
from controller.checkpoints.storage_jobs import build_cleanup_job, cleanup_job_name
from controller.runtime.plan import Plan
from kube.api import Object
from kube.recorder import EventSpec
from kube.store import key_of

POLL_SECONDS: Final = 5.0
"""Seconds between looks at a Job that runs; its end also wakes the controller."""
RETRY_SECONDS: Final = 30.0
"""Seconds that a failed cleanup Job stays, so that its log can be read and the next try is not in haste."""
BLOCKED_SECONDS: Final = 60.0
"""Seconds between looks at what only a person can put right."""


def has_finalizer(checkpoint: Object) -> bool:
    """Say whether our finalizer holds the object."""
    return keys.FINALIZER in (checkpoint["metadata"].get("finalizers") or ())


def plan_deletion(current: Pass) -> Plan[Action]:
    """Plan the next step towards letting the object go; its status matters no more."""
    observed, checkpoint = current.observed, current.checkpoint
    if not has_finalizer(checkpoint):
        return Plan()
    checkpoint_id = id_of(checkpoint)
    if not checkpoint_id:
        return _let_go("it never had a checkpoint id, so there is no artifact")
    others = (each for each in observed.siblings if not each["metadata"].get("deletionTimestamp"))
    if any((each.get("status") or {}).get("phase") in (Phase.READY, Phase.CREATING) for each in others):
        return _let_go(f"another checkpoint uses the artifact {checkpoint_id}")
    if current.job is not None and not current.job.is_finished:
        # It would go on writing to the very directory that the cleanup removes.
        actions = () if current.job.is_deleting else (DeleteJob(current.job.raw),)
        return Plan(actions, requeue_after=POLL_SECONDS)
    return _clean_up(current, checkpoint_id)


def _clean_up(current: Pass, checkpoint_id: str) -> Plan[Action]:
    observed = current.observed
    refusal = observed.refusal
    if refusal is not None and refusal.how == Refused.NAMESPACE_ENDING:
        return _let_go("its namespace is being deleted, and nothing new can run there")
    if refusal is not None:
        return _blocked(f"the cleanup Job was refused: {refusal.message}")
    if current.cleanup_job is not None:
        return _follow(current, current.cleanup_job, checkpoint_id)
    job = build_cleanup_job(
        current.checkpoint,
        checkpoint_id,
        store_namespace(current.checkpoint, observed.release_namespace, current.storage),
        values=current.values,
        storage=current.storage,
    )
    event = note(CheckpointReason.CLEANUP_RUNNING, f"removing artifact {checkpoint_id}")
    return Plan((CreateJob(job),), events=(event,), requeue_after=POLL_SECONDS)


def _follow(current: Pass, job: JobView, checkpoint_id: str) -> Plan[Action]:
    # A Job of that name made by hand would complete without having removed this artifact.
    if job.labels.get(keys.LABEL_CHECKPOINT_ID) != checkpoint_id:
        return _blocked(f"Job {cleanup_job_name(checkpoint_id)} exists and removes something else; delete it")
    if job.is_complete:
        event = note(CheckpointReason.ARTIFACT_REMOVED, f"artifact {checkpoint_id} removed")
        return Plan((DeleteJob(job.raw), SetFinalizer(present=False)), events=(event,))
    stuck = pods.store_job_problem(job, None, current.observed.cleanup_events, current.now)
    if stuck and pods.forbids_root(stuck):
        stuck = f"{stuck}; or {_by_hand(current.checkpoint)}"
    if job.is_failed and not job.is_deleting:
        # One that never had a pod has no log to read: it ran out of time while it was kept from beginning.
        return _failed(job, note(CheckpointReason.CLEANUP_BLOCKED, stuck) if stuck else _failure(job), current.now)
    return _blocked(stuck) if stuck else Plan(requeue_after=POLL_SECONDS)


def _failure(job: JobView) -> EventSpec:
    entry = job.conditions["Failed"]
    namespace, name = key_of(job.raw)
    words = f"cleanup Job {name} failed: {entry.message or entry.reason}"
    log = f"`kubectl logs job/{name} -n {namespace}`"
    return note(CheckpointReason.CLEANUP_FAILED, f"{words}; see {log}; it is tried again every {RETRY_SECONDS:.0f} s")


def _failed(job: JobView, event: EventSpec, now: datetime) -> Plan[Action]:
    since = job.conditions["Failed"].since
    left = RETRY_SECONDS - (now - since).total_seconds() if since is not None else 0.0
    if left > 0:
        return Plan(events=(event,), requeue_after=left)
    return Plan((DeleteJob(job.raw),), requeue_after=POLL_SECONDS)


def _blocked(words: str) -> Plan[Action]:
    event = note(CheckpointReason.CLEANUP_BLOCKED, words)
    return Plan(events=(event,), requeue_after=BLOCKED_SECONDS)


def _by_hand(checkpoint: Object) -> str:
    """Say how to delete the object and keep its artifact."""
    namespace, name = key_of(checkpoint)
    return (
        f"let the object go and keep the artifact: `kubectl patch dckpt {name} -n {namespace} --type=merge -p "
        '\'{"metadata":{"finalizers":null}}\'`; see docs/operating.md#a-checkpoint-that-does-not-go'
    )


def _let_go(why: str) -> Plan[Action]:
    event = note(CheckpointReason.ARTIFACT_KEPT, f"no artifact removed: {why}")
    return Plan((SetFinalizer(present=False),), events=(event,))
