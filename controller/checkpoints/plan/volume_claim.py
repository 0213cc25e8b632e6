"""The volume for artifacts: with podMount the worker's pod mounts it, so it must be there before the Job.

With agentMount a missing agent is said, and the Job made all the same: its pod waits for a node with an agent.
"""

from contract.api.checkpoint import captured_version
from contract.api.states import CheckpointReason, ConditionType
from contract.api.volume_claims import shape_claim
from contract.config.storage import BadIdError, artifact_path
from controller.checkpoints.actions import CreateClaim
from controller.checkpoints.diagnose.agents import agent_problem
from controller.checkpoints.observed import Pass, Refusal
from controller.checkpoints.plan.adopting import store_namespace
from controller.checkpoints.plan.status import Status
from controller.checkpoints.reasons import Problem
from kube.api import Object
from kube.resources import PERSISTENT_VOLUME_CLAIMS

CREATE_KEY = "storage.pvc.create"
"""The chart value that lets the controller make the volume."""


def check_storage(current: Pass, status: Status) -> tuple[Status, bool]:
    """State condition StorageReady, and the problem if there is one; answers whether a Job can be made now."""
    observed, where = current.observed, claim_of(current)
    if not current.storage.in_pod:
        status, problem = agents_storage(current, status)
        return status.waiting(problem), True
    refusal, found = observed.refusal, CheckpointReason.VOLUME_CLAIM_FOUND
    if observed.claim is not None:
        problem = _unusable(observed.claim, where)
    elif refusal is not None and refusal.kind == PERSISTENT_VOLUME_CLAIMS.kind:
        problem = _refused(where, refusal)
    elif not current.storage.create:
        problem = _missing(where)
    else:
        problem, found, where = None, CheckpointReason.VOLUME_CLAIM_CREATED, f"created PersistentVolumeClaim {where}"
    if problem is not None:
        return status.unmet(ConditionType.STORAGE_READY, problem).waiting(problem), False
    return status.with_condition(ConditionType.STORAGE_READY, met=True, reason=found, message=where), True


def claim_of(current: Pass) -> str:
    """Return ``<namespace>/<name>`` of the claim that a capture made now goes to."""
    namespace = store_namespace(current.checkpoint, current.observed.release_namespace, current.storage)
    return f"{namespace}/{current.storage.pvc_name}"


def agents_storage(current: Pass, status: Status) -> tuple[Status, Problem | None]:
    """State condition StorageReady of agentMount; answers what is wrong with the agents too."""
    if current.storage.in_pod:
        return status, None
    where, agents = claim_of(current), current.observed.agents
    # None: not listed yet. Silence about them is no proof that they are missing.
    problem = agent_problem(agents, where.partition("/")[0], current.storage) if agents is not None else None
    if problem is not None:
        return status.unmet(ConditionType.STORAGE_READY, problem), problem
    found = CheckpointReason.AGENT_MOUNTS_STORAGE
    return status.with_condition(ConditionType.STORAGE_READY, met=True, reason=found, message=where), None


def check_artifact(current: Pass, status: Status) -> Status:
    """Say of a Ready checkpoint if, by the values of now, pods would not find its artifact."""
    problem = _gone(current) or _moved(current, status)
    if problem is not None:
        return status.unmet(ConditionType.STORAGE_READY, problem)
    if (status.condition(ConditionType.STORAGE_READY) or {}).get("status") != "False":
        return status
    found = CheckpointReason.VOLUME_CLAIM_FOUND if current.storage.in_pod else CheckpointReason.AGENT_MOUNTS_STORAGE
    return status.with_condition(ConditionType.STORAGE_READY, met=True, reason=found, message=claim_of(current))


def claim_to_make(current: Pass) -> tuple[CreateClaim, ...]:
    """Return the action that makes the volume; none if it is there or not needed."""
    if not current.storage.in_pod or current.observed.claim is not None:
        return ()
    return (CreateClaim(shape_claim(current.checkpoint["metadata"].get("namespace", ""), current.storage)),)


def _gone(current: Pass) -> Problem | None:
    if not current.storage.in_pod or current.observed.claim is not None:
        return None
    where = claim_of(current)
    message = f"PersistentVolumeClaim {where} is not there any more, so pods start cold; make it again with its volume"
    return Problem(CheckpointReason.VOLUME_CLAIM_MISSING, message)


def _moved(current: Pass, status: Status) -> Problem | None:
    was = (str(status.before.get("storageClaim") or ""), str(status.before.get("location") or ""))
    try:
        version = captured_version(current.checkpoint, status.checkpoint_id)
        now = (claim_of(current), artifact_path(current.storage.base_path, status.checkpoint_id, version))
    except BadIdError:
        return None
    # What an earlier release did not write down is not compared.
    if all(before in ("", after) for before, after in zip(was, now, strict=True)):
        return None
    return Problem(
        CheckpointReason.STORAGE_CHANGED,
        f"the artifact is at {was[1] or now[1]} on PersistentVolumeClaim {was[0] or now[0]}, but by the chart's "
        f"storage values pods look at {now[1]} on {now[0]} and start cold; set the values back, move the artifact, "
        "or capture a new version",
    )


def _unusable(claim: Object, where: str) -> Problem | None:
    if claim["metadata"].get("deletionTimestamp"):
        return Problem(CheckpointReason.VOLUME_CLAIM_LOST, f"PersistentVolumeClaim {where} is being deleted")
    if (claim.get("status") or {}).get("phase") == "Lost":
        message = f"PersistentVolumeClaim {where} lost its volume; delete it and make it again"
        return Problem(CheckpointReason.VOLUME_CLAIM_LOST, message)
    # Not bound yet is fine: with WaitForFirstConsumer it is bound only when the pod is scheduled.
    return None


def _missing(where: str) -> Problem:
    return Problem(
        CheckpointReason.VOLUME_CLAIM_MISSING,
        f"PersistentVolumeClaim {where} does not exist; create it, or set the chart value {CREATE_KEY}=true",
    )


def _refused(where: str, refusal: Refusal) -> Problem:
    return Problem(
        CheckpointReason.VOLUME_CLAIM_REFUSED,
        f"PersistentVolumeClaim {where} cannot be created: {refusal.message}; "
        f"correct the chart values storage.pvc.*, or create it yourself and set {CREATE_KEY}=false",
    )
