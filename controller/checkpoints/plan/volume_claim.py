"""The volume for artifacts: with podMount the worker's pod mounts it, so it must be there before the Job.

With agentMount a missing agent is said, and the Job made all the same: its pod waits for a node with an agent.
"""

from contract.api.checkpoint import captured_version
from contract.api.states import ConditionType
from contract.api.volume_claims import shape_claim
from contract.config.storage import BadIdError, Storage, artifact_path
from controller.checkpoints.actions import CreateClaim
from controller.checkpoints.diagnose.agents import agent_problem
from controller.checkpoints.observed import Observed, Refusal
from controller.checkpoints.plan.adopting import store_namespace
from controller.checkpoints.plan.status import StatusDraft
from controller.checkpoints.reasons import Problem, Reason
from kube.api import Object
from kube.resources import PERSISTENT_VOLUME_CLAIMS

CREATE_KEY = "storage.pvc.create"
"""The chart value that lets the controller make the volume."""


def claim_usable(observed: Observed, draft: StatusDraft, storage: Storage) -> bool:
    """Whether the volume is there or can be made; states condition StorageReady, and the problem where it has one."""
    where = claim_of(observed, storage)
    if not storage.in_pod:
        draft.problem = agents_storage(observed, draft, storage)
        return True
    refusal = observed.refusal
    if observed.claim is not None:
        return _existing(observed.claim, where, draft)
    if refusal is not None and refusal.kind == PERSISTENT_VOLUME_CLAIMS.kind:
        return _blocked(draft, _refused(where, refusal))
    if not storage.create:
        return _blocked(draft, _missing(where))
    draft.condition(
        ConditionType.STORAGE_READY,
        met=True,
        reason=Reason.VOLUME_CLAIM_CREATED,
        message=f"created PersistentVolumeClaim {where}",
    )
    return True


def claim_of(observed: Observed, storage: Storage) -> str:
    """``<namespace>/<name>`` of the claim that a capture made now goes to."""
    return f"{store_namespace(observed.checkpoint, observed.release_namespace, storage)}/{storage.pvc_name}"


def agents_storage(observed: Observed, draft: StatusDraft, storage: Storage) -> Problem | None:
    """State condition StorageReady of agentMount; answers what is wrong with the agents."""
    if storage.in_pod:
        return None
    where = claim_of(observed, storage)
    namespace = where.partition("/")[0]
    problem = agent_problem(observed.agents, namespace, storage) if observed.agents is not None else None
    draft.condition(
        ConditionType.STORAGE_READY,
        met=problem is None,
        reason=problem.reason if problem else Reason.AGENT_MOUNTS_STORAGE,
        message=problem.message if problem else where,
    )
    return problem


def look_after_artifact(observed: Observed, draft: StatusDraft, storage: Storage) -> None:
    """Of a Ready checkpoint: say where pods would look for its artifact in vain, by the values of now."""
    problem = _gone(observed, storage) or _moved(observed, draft, storage)
    if problem is not None:
        draft.condition(ConditionType.STORAGE_READY, met=False, reason=problem.reason, message=problem.message)
    elif (draft.condition_of(ConditionType.STORAGE_READY) or {}).get("status") == "False":
        found = Reason.VOLUME_CLAIM_FOUND if storage.in_pod else Reason.AGENT_MOUNTS_STORAGE
        message = claim_of(observed, storage)
        draft.condition(ConditionType.STORAGE_READY, met=True, reason=found, message=message)


def claim_to_make(observed: Observed, storage: Storage) -> tuple[CreateClaim, ...]:
    """The step that makes the volume, nothing where it is there or not needed."""
    if not storage.in_pod or observed.claim is not None:
        return ()
    return (CreateClaim(shape_claim(observed.checkpoint["metadata"].get("namespace", ""), storage)),)


def _gone(observed: Observed, storage: Storage) -> Problem | None:
    if not storage.in_pod or observed.claim is not None:
        return None
    where = claim_of(observed, storage)
    message = f"PersistentVolumeClaim {where} is not there any more, so pods start cold; make it anew with its volume"
    return Problem(Reason.VOLUME_CLAIM_MISSING, message)


def _moved(observed: Observed, draft: StatusDraft, storage: Storage) -> Problem | None:
    status = observed.checkpoint.get("status") or {}
    was = (str(status.get("storageClaim") or ""), str(status.get("location") or ""))
    try:
        version = captured_version(observed.checkpoint, draft.checkpoint_id)
        now = (claim_of(observed, storage), artifact_path(storage.base_path, draft.checkpoint_id, version))
    except BadIdError:
        return None
    # What an earlier release did not write down is not compared.
    if all(before in ("", after) for before, after in zip(was, now, strict=True)):
        return None
    return Problem(
        Reason.STORAGE_CHANGED,
        f"the artifact is at {was[1] or now[1]} on PersistentVolumeClaim {was[0] or now[0]}, but by the chart's "
        f"storage values pods look at {now[1]} on {now[0]} and start cold; set the values back, move the artifact, "
        "or capture a new version",
    )


def _existing(claim: Object, where: str, draft: StatusDraft) -> bool:
    if claim["metadata"].get("deletionTimestamp"):
        return _blocked(draft, Problem(Reason.VOLUME_CLAIM_LOST, f"PersistentVolumeClaim {where} is being deleted"))
    if (claim.get("status") or {}).get("phase") == "Lost":
        message = f"PersistentVolumeClaim {where} lost its volume; delete it and make it anew"
        return _blocked(draft, Problem(Reason.VOLUME_CLAIM_LOST, message))
    draft.condition(ConditionType.STORAGE_READY, met=True, reason=Reason.VOLUME_CLAIM_FOUND, message=where)
    return True


def _blocked(draft: StatusDraft, problem: Problem) -> bool:
    draft.condition(ConditionType.STORAGE_READY, met=False, reason=problem.reason, message=problem.message)
    draft.wait(problem)
    return False


def _missing(where: str) -> Problem:
    return Problem(
        Reason.VOLUME_CLAIM_MISSING,
        f"PersistentVolumeClaim {where} does not exist; create it, or set the chart value {CREATE_KEY}=true",
    )


def _refused(where: str, refusal: Refusal) -> Problem:
    return Problem(
        Reason.VOLUME_CLAIM_REFUSED,
        f"PersistentVolumeClaim {where} cannot be created: {refusal.message}; "
        f"correct the chart values storage.pvc.*, or create it yourself and set {CREATE_KEY}=false",
    )
