"""The next pass over given objects, without a cluster: for users' CI, for tests, for "what would it do?".

The very same plan function, with its actions applied to the objects at hand.  What only an API server can tell (a
refused Job, quotas, scheduling) is not known here: creations succeed.
"""

from collections.abc import Iterable
from copy import deepcopy
from datetime import datetime

from contract import keys
from contract.checkpoint import resolve_id
from contract.storage import BadIdError, storage_from_values
from contract.values import Values
from controller.actions import (
    Action,
    CheckJob,
    CreateClaim,
    CreateJob,
    DeleteJob,
    Plan,
    SetDeadline,
    SetFinalizer,
    SetLabel,
)
from controller.cleanup_job import cleanup_job_name
from controller.deletion import cleanup_namespace
from controller.observed import Observed, job_to_look_at
from controller.plan import plan
from kube.resources import CHECKPOINTS, EVENTS, JOBS, LEASES, PERSISTENT_VOLUME_CLAIMS, PODS
from kube.seam import Object
from kube.store import key_of


class World:
    """Objects by kind, namespace and name; a later object replaces an earlier one of the same name."""

    def __init__(self, objects: Iterable[Object]) -> None:
        self._objects: dict[tuple[str, str, str], Object] = {}
        for obj in objects:
            self.put(deepcopy(obj))

    def put(self, obj: Object) -> None:
        """Add or replace an object."""
        self._objects[str(obj.get("kind", "")), _namespace(obj), str(obj["metadata"]["name"])] = obj

    def remove(self, obj: Object) -> None:
        """Take an object away, if it is there."""
        self._objects.pop((str(obj.get("kind", "")), _namespace(obj), str(obj["metadata"]["name"])), None)

    def get(self, kind: str, namespace: str, name: str) -> Object | None:
        """One object, or None."""
        return self._objects.get((kind, namespace, name))

    def of_kind(self, kind: str, namespace: str) -> tuple[Object, ...]:
        """All objects of a kind in a namespace."""
        return tuple(obj for (each, where, _), obj in self._objects.items() if (each, where) == (kind, namespace))

    def all(self) -> list[Object]:
        """Everything, in the order in which it came."""
        return list(self._objects.values())


def plan_objects(objects: Iterable[Object], values: Values, now: datetime) -> Object:
    """One pass over every DynamoCheckpoint among *objects*.

    Returns:
        ``{"objects": [...], "events": [{type, reason, message, object}], "requeueAfterSeconds": n or None,
        "error": text or None}``; objects include all that were given.
    """
    world = World(objects)
    checkpoints = [obj for obj in world.all() if obj.get("kind") == CHECKPOINTS.kind]
    events: list[Object] = []
    requeues: list[float] = []
    errors: list[str] = []
    for checkpoint in checkpoints:
        try:
            step = plan(look(world, checkpoint, values), now, values)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            # Offline input never passed a schema.
            name = checkpoint.get("metadata", {}).get("name")
            errors.append(f"{CHECKPOINTS.kind} {name}: {type(error).__name__}: {error}")
            continue
        events += _apply(world, checkpoint, step)
        if step.requeue_after is not None:
            requeues.append(step.requeue_after)
    return {
        "objects": world.all(),
        "events": events,
        "requeueAfterSeconds": min(requeues, default=None),
        "error": "; ".join(errors) or None,
    }


def look(world: World, checkpoint: Object, values: Values) -> Observed:
    """What the controller would see of one checkpoint."""
    namespace = _namespace(checkpoint)
    storage = storage_from_values(values)
    job_name = job_to_look_at(checkpoint)
    checkpoint_id = _id(checkpoint)
    look_from = Observed(checkpoint=checkpoint)
    return Observed(
        checkpoint=checkpoint,
        job=world.get(JOBS.kind, namespace, job_name),
        pods=tuple(pod for pod in world.of_kind(PODS.kind, namespace) if _of_job(pod, job_name)),
        job_events=tuple(
            event
            for event in world.of_kind(EVENTS.kind, namespace)
            if (event.get("involvedObject") or {}).get("name") == job_name
        ),
        claim=world.get(PERSISTENT_VOLUME_CLAIMS.kind, namespace, storage.pvc_name) if storage.in_pod else None,
        siblings=tuple(
            each
            for each in world.of_kind(CHECKPOINTS.kind, namespace)
            if checkpoint_id and key_of(each)[1] != key_of(checkpoint)[1] and _id(each) == checkpoint_id
        ),
        lease=world.get(LEASES.kind, namespace, job_name),
        cleanup_job=world.get(JOBS.kind, cleanup_namespace(look_from, storage), cleanup_job_name(checkpoint_id)),
    )


def _apply(world: World, checkpoint: Object, step: Plan) -> list[Object]:
    for action in step.actions:
        _act(world, checkpoint, action)
    if step.status is not None:
        checkpoint["status"] = step.status
    about = f"{CHECKPOINTS.kind}/{checkpoint['metadata']['name']}"
    return [
        {"type": note.type, "reason": str(note.reason), "message": note.message, "object": about}
        for note in step.events
    ]


def _act(world: World, checkpoint: Object, action: Action) -> None:
    match action:
        case SetLabel(key, value):
            checkpoint["metadata"].setdefault("labels", {})[key] = value
        case SetFinalizer(present):
            _set_finalizer(world, checkpoint, present=present)
        case CreateClaim(claim):
            world.put(_as_applied(claim))
        case CreateJob(job):
            if world.get(JOBS.kind, _namespace(job), job["metadata"]["name"]) is None:
                world.put(_as_applied(job))
        case DeleteJob(job):
            world.remove(job)
        case SetDeadline(job, seconds):
            job["spec"]["activeDeadlineSeconds"] = seconds
        case CheckJob():
            pass


def _as_applied(obj: Object) -> Object:
    """A copy without an empty namespace: the checkpoint at hand may have none."""
    made = deepcopy(obj)
    if not made["metadata"].get("namespace"):
        made["metadata"].pop("namespace", None)
    return made


def _set_finalizer(world: World, checkpoint: Object, *, present: bool) -> None:
    metadata = checkpoint["metadata"]
    others = [each for each in metadata.get("finalizers") or () if each != keys.FINALIZER]
    metadata["finalizers"] = [*others, keys.FINALIZER] if present else others
    if metadata.get("deletionTimestamp") and not metadata["finalizers"]:
        world.remove(checkpoint)


def _of_job(pod: Object, job_name: str) -> bool:
    labels = pod["metadata"].get("labels") or {}
    return bool(job_name) and job_name in (labels.get(keys.LABEL_JOB_NAME), labels.get("job-name"))


def _namespace(obj: Object) -> str:
    return str(obj["metadata"].get("namespace", ""))


def _id(checkpoint: Object) -> str:
    try:
        return resolve_id(checkpoint) or ""
    except BadIdError:
        return ""
