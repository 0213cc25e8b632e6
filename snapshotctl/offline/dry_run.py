"""One pass of the controller over objects from a file: observed and planned by its own code, applied to a copy."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncGenerator, Iterable
from dataclasses import dataclass
from datetime import datetime

from contract.api import keys
from contract.api.checkpoint import labels_of
from contract.config.storage import StorageError, storage_from_values
from contract.config.values import Values
from controller.checkpoints.actions import (
    Action,
    CheckJob,
    CreateClaim,
    CreateJob,
    DeleteJob,
    SetAnnotations,
    SetDeadline,
    SetFinalizer,
    SetLabel,
)
from controller.checkpoints.observe import JOB_LABELS, Observer, make_informers
from controller.checkpoints.plan.plan import plan
from kube.api import Listing, Object, Transform, WatchEvent
from kube.errors import NotFoundError
from kube.resources import JOBS, PERSISTENT_VOLUME_CLAIMS, PODS, Resource
from snapshotctl.offline.objects import is_checkpoint

Key = tuple[str, str, str]
"""Kind, namespace, name."""


@dataclass(frozen=True)
class DryRun:
    """What a pass leaves behind."""

    objects: list[Object]
    events: list[dict[str, str]]
    requeue_after_seconds: float | None
    error: str | None


def key_of(obj: Object) -> Key:
    """Return what identifies an object of the file."""
    metadata = obj["metadata"]
    return str(obj["kind"]), str(metadata.get("namespace", "")), str(metadata["name"])


def dry_run(objects: Iterable[Object], values: Values, now: datetime) -> DryRun:
    """Run one pass over every DynamoCheckpoint among ``objects``; each sees the objects as they are in the file."""
    return asyncio.run(_dry_run(list(objects), values, now))


async def _dry_run(objects: list[Object], values: Values, now: datetime) -> DryRun:
    after = {key_of(obj): copy.deepcopy(obj) for obj in objects}
    events: list[dict[str, str]] = []
    times: list[float] = []
    errors: list[str] = []
    try:
        observer = _observer(objects, values)
    except StorageError as error:
        return DryRun(list(after.values()), [], None, f"chart value {error}")
    for checkpoint in filter(is_checkpoint, objects):
        key = key_of(checkpoint)
        try:
            observed = await observer.observe(key[1:], now)
            if observed is None:
                continue
            step = plan(copy.deepcopy(observed), now, values)
        except Exception as error:  # noqa: BLE001 - reported in the result, beside the other checkpoints
            errors.append(f"{'/'.join(key)}: {type(error).__name__}: {error}")
            continue
        for action in step.actions:
            _apply(after, key, action)
        if step.status is not None and key in after:
            after[key]["status"] = step.status
        who = f"{key[0]}/{key[2]}"
        events += [{"type": n.type, "reason": str(n.reason), "message": n.message, "object": who} for n in step.events]
        times += [] if step.requeue_after is None else [step.requeue_after]
    return DryRun(list(after.values()), events, min(times, default=None), "; ".join(errors) or None)


def _observer(objects: list[Object], values: Values) -> Observer:
    storage = storage_from_values(values)
    kube = _File(objects)
    informers = make_informers(kube, None, storage)
    for obj in objects:
        if is_checkpoint(obj):
            informers.checkpoints.store.put(obj)
        elif obj["kind"] == JOBS.kind and labels_of(obj).get(keys.LABEL_CHECKPOINT_ID):
            informers.jobs.store.put(obj)
        elif obj["kind"] == PODS.kind and labels_of(obj).get(keys.LABEL_IS_SOURCE) == "true":
            informers.pods.store.put(obj)
        elif obj["kind"] == PERSISTENT_VOLUME_CLAIMS.kind and informers.claims is not None:
            informers.claims.store.put(obj)
    return Observer(kube, informers, storage, "")


class _File:
    """The reading half of the seam to Kubernetes, over the objects of a file."""

    def __init__(self, objects: list[Object]) -> None:
        self._objects = {key_of(obj): obj for obj in objects}

    async def get(self, resource: Resource, name: str, namespace: str | None = None) -> Object:
        """Return the object.

        Raises:
            NotFoundError: the file has none; of a kind that it has nothing of, it says nothing.
        """
        found = self._objects.get((resource.kind, namespace or "", name))
        if found is None and not any(kind == resource.kind for kind, _, _ in self._objects):
            raise NotFoundError(404, "NotFound", "the file could not find the requested resource")
        if found is None:
            raise NotFoundError(404, "NotFound", f"{resource.plural} {name!r} not found")
        return found

    async def list(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        labels: str = "",
        fields: str = "",
        keep: Transform | None = None,
    ) -> Listing:
        """List objects of a kind; of the selectors only ``involvedObject.name=`` matters to what is asked here."""
        del labels, keep
        wanted = dict(part.split("=", 1) for part in fields.split(",") if part)
        name = wanted.get("involvedObject.name")
        items = [
            obj
            for (kind, where, _), obj in self._objects.items()
            if kind == resource.kind
            and namespace in (None, where)
            and (name is None or (obj.get("involvedObject") or {}).get("name") == name)
        ]
        return Listing(tuple(items), "")

    def watch(self, *_: object, **__: object) -> AsyncGenerator[WatchEvent, None]:
        """Not for files."""
        raise NotImplementedError

    async def create(self, *_: object, **__: object) -> Object:
        """Not for files."""
        raise NotImplementedError

    async def delete(self, *_: object, **__: object) -> None:
        """Not for files."""
        raise NotImplementedError

    patch = create


def _apply(after: dict[Key, Object], key: Key, action: Action) -> None:
    metadata = after[key]["metadata"] if key in after else {}
    match action:
        case SetLabel(label, value):
            metadata["labels"] = {**(metadata.get("labels") or {}), label: value}
        case SetAnnotations(values):
            changed: dict[str, str | None] = {**(metadata.get("annotations") or {}), **values}
            metadata["annotations"] = {name: text for name, text in changed.items() if text is not None}
        case SetFinalizer(present):
            _set_finalizer(after, key, present=present)
        case CreateClaim(claim):
            after.setdefault(key_of(claim), copy.deepcopy(claim))
        case CreateJob(job):
            after.setdefault(key_of(job), copy.deepcopy(job))
        case DeleteJob(job):
            _delete_job(after, job)
        case SetDeadline(job, seconds):
            after[key_of(job)]["spec"]["activeDeadlineSeconds"] = seconds
        case CheckJob():
            pass


def _set_finalizer(after: dict[Key, Object], key: Key, *, present: bool) -> None:
    metadata = after[key]["metadata"]
    others = [each for each in metadata.get("finalizers") or () if each != keys.FINALIZER]
    metadata["finalizers"] = [*others, keys.FINALIZER] if present else others
    if metadata.get("deletionTimestamp") and not metadata["finalizers"]:
        del after[key]


def _delete_job(after: dict[Key, Object], job: Object) -> None:
    kind, namespace, name = key_of(job)
    after.pop((kind, namespace, name), None)
    for each, obj in list(after.items()):
        owned = any(labels_of(obj).get(label) == name for label in JOB_LABELS)
        if each[:2] == (PODS.kind, namespace) and owned:
            del after[each]
