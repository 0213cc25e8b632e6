"""The volume for artifacts: with podMount the worker's pod mounts it, so it must be there before the Job."""

from contract.states import ConditionType
from contract.storage import Storage
from controller.actions import CreateClaim
from controller.draft import Draft
from controller.observed import Observed, Refusal
from controller.reasons import Problem, Reason
from kube.resources import PERSISTENT_VOLUME_CLAIMS
from kube.seam import Object

CREATE_KEY = "storage.pvc.create"
"""The chart value that lets the controller make the volume."""


def claim_usable(observed: Observed, draft: Draft, storage: Storage) -> bool:
    """Whether the volume is there or can be made; states condition StorageReady, and the problem where it has one."""
    if not storage.in_pod:
        draft.condition(ConditionType.STORAGE_READY, met=True, reason=Reason.AGENT_MOUNTS_STORAGE)
        return True
    namespace = observed.checkpoint["metadata"].get("namespace", "")
    where = f"{namespace}/{storage.pvc_name}"
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


def claim_to_make(observed: Observed, storage: Storage) -> tuple[CreateClaim, ...]:
    """The step that makes the volume, nothing where it is there or not needed."""
    if not storage.in_pod or observed.claim is not None:
        return ()
    return (CreateClaim(shape_claim(observed.checkpoint["metadata"].get("namespace", ""), storage)),)


def shape_claim(namespace: str, storage: Storage) -> Object:
    """The PersistentVolumeClaim that *storage* describes; nothing owns it, because artifacts outlive checkpoints."""
    spec: Object = {
        "accessModes": [storage.pvc_access_mode],
        "volumeMode": "Filesystem",
        "resources": {"requests": {"storage": storage.size}},
    }
    if storage.storage_class:
        spec["storageClassName"] = storage.storage_class
    labels = {
        "app.kubernetes.io/name": "dynamo",
        "app.kubernetes.io/component": "checkpoint-storage",
        "app.kubernetes.io/managed-by": "dynamo-operator",
    }
    return {
        "apiVersion": PERSISTENT_VOLUME_CLAIMS.api_version,
        "kind": PERSISTENT_VOLUME_CLAIMS.kind,
        "metadata": {"name": storage.pvc_name, "namespace": namespace, "labels": labels},
        "spec": spec,
    }


def _existing(claim: Object, where: str, draft: Draft) -> bool:
    if claim["metadata"].get("deletionTimestamp"):
        return _blocked(draft, Problem(Reason.VOLUME_CLAIM_LOST, f"PersistentVolumeClaim {where} is being deleted"))
    if (claim.get("status") or {}).get("phase") == "Lost":
        message = f"PersistentVolumeClaim {where} lost its volume; delete it and make it anew"
        return _blocked(draft, Problem(Reason.VOLUME_CLAIM_LOST, message))
    draft.condition(ConditionType.STORAGE_READY, met=True, reason=Reason.VOLUME_CLAIM_FOUND, message=where)
    return True


def _blocked(draft: Draft, problem: Problem) -> bool:
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
