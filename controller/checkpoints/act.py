"""Carry out what was planned. Each action is idempotent: done twice, or by another client before, it succeeds."""

import logging
from collections.abc import Callable, Iterable

from contract.api import keys
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
from controller.checkpoints.observed import Refusal, Refused, belongs_to, owner_of
from kube.api import KubeClient, Object, Propagation
from kube.errors import REFUSALS, AlreadyExistsError, ApiError, ConflictError, ForbiddenError, NotFoundError
from kube.resources import CHECKPOINTS, JOBS, PERSISTENT_VOLUME_CLAIMS, Resource
from kube.store import key_of

Learn = Callable[[Resource, Object], None]
logger = logging.getLogger(__name__)


class Actor:
    """Carries out plans for one checkpoint at a time."""

    def __init__(self, kube: KubeClient, learn: Learn) -> None:
        self._kube = kube
        self._learn = learn

    async def act(self, checkpoint: Object, actions: Iterable[Action]) -> tuple[Object, Refusal | None]:
        """Run *actions* in order until one is refused.

        Returns:
            The checkpoint as it is afterwards, and the refusal.

        Raises:
            KubeError: a call failed in a way that says nothing about the plan; or the checkpoint changed meanwhile.
        """
        for action in actions:
            checkpoint, refusal = await self._one(checkpoint, action)
            if refusal is not None:
                logger.info("refused", extra={"checkpoint": key_of(checkpoint), "refusal": refusal.message})
                return checkpoint, refusal
        return checkpoint, None

    async def write_status(self, checkpoint: Object, before: Object, status: Object) -> Object:
        """Write what the plan changed of the status, guarded by the version that it was planned for.

        Args:
            checkpoint: as it is after the plan's actions.
            before: the status that the plan started from.
            status: the whole status that it ended with; fields that the plan did not touch stay as they are by now,
                because other rooms write some of them.

        Raises:
            ConflictError: the checkpoint changed meanwhile.
        """
        changed = {field: value for field, value in status.items() if field not in before or before[field] != value}
        removed = {field: None for field in before if field not in status}
        body = {"metadata": {"resourceVersion": _version(checkpoint)}, "status": changed | removed}
        return await self._patch(checkpoint, body, subresource="status")

    async def _one(self, checkpoint: Object, action: Action) -> tuple[Object, Refusal | None]:
        match action:
            case SetLabel() | SetAnnotations() | SetFinalizer():
                return await self._patch(checkpoint, {"metadata": _metadata(checkpoint, action)}), None
            case CreateClaim(claim):
                return checkpoint, await self._create(PERSISTENT_VOLUME_CLAIMS, claim)
            case CheckJob(job):
                return checkpoint, await self._create(JOBS, job, dry_run=True)
            case CreateJob(job):
                return checkpoint, await self._create(JOBS, job, owner=checkpoint)
            case DeleteJob(job):
                await self._delete(job)
            case SetDeadline(job, seconds):
                await self._deadline(job, seconds)
        return checkpoint, None

    async def _patch(self, checkpoint: Object, body: Object, subresource: str = "") -> Object:
        namespace, name = key_of(checkpoint)
        result = await self._kube.patch(CHECKPOINTS, name, body, namespace, subresource=subresource)
        self._learn(CHECKPOINTS, result)
        return result

    async def _create(
        self, resource: Resource, body: Object, *, dry_run: bool = False, owner: Object | None = None
    ) -> Refusal | None:
        namespace, name = key_of(body)
        try:
            made = await self._kube.create(resource, body, namespace, dry_run=dry_run)
        except AlreadyExistsError:
            return await self._taken(resource, namespace, name, owner) if owner is not None else None
        except REFUSALS as error:
            return Refusal(resource.kind, _how(error), error.message)
        if not dry_run:
            self._learn(resource, made)
        return None

    async def _taken(self, resource: Resource, namespace: str, name: str, owner: Object) -> Refusal | None:
        """Say whether the object that has the name is the one we wanted to make."""
        there = await self._kube.get(resource, name, namespace)
        self._learn(resource, there)
        if belongs_to(there, owner):
            return None
        return Refusal(resource.kind, Refused.NOT_OURS, owner_of(there))

    async def _delete(self, job: Object) -> None:
        namespace, name = key_of(job)
        try:
            # Foreground: the Job stays as long as its pods, so its absence says that nothing writes any more.
            uid = str(job["metadata"].get("uid", ""))
            await self._kube.delete(JOBS, name, namespace, propagation=Propagation.FOREGROUND, uid=uid)
        except NotFoundError:
            return
        except ConflictError:
            # Another Job has that name by now: not the one to delete.
            return

    async def _deadline(self, job: Object, seconds: int) -> None:
        namespace, name = key_of(job)
        try:
            made = await self._kube.patch(JOBS, name, {"spec": {"activeDeadlineSeconds": seconds}}, namespace)
        except ApiError as error:
            # Not worth a failed capture: the Job may have ended a moment ago.
            logger.warning("deadline of Job %s/%s not extended: %s", namespace, name, error)
            return
        self._learn(JOBS, made)


def _metadata(checkpoint: Object, action: SetLabel | SetAnnotations | SetFinalizer) -> Object:
    """Return what a merge patch of the checkpoint's metadata says."""
    guard = {"resourceVersion": _version(checkpoint)}
    match action:
        case SetLabel(key, value):
            return {"labels": {key: value}}
        case SetAnnotations(values):
            return guard | {"annotations": values}
        case SetFinalizer(present):
            others = [each for each in checkpoint["metadata"].get("finalizers") or () if each != keys.FINALIZER]
            # A merge patch replaces the list, so it must be the list that was read.
            return guard | {"finalizers": [*others, keys.FINALIZER] if present else others}


def _version(obj: Object) -> str:
    return str(obj["metadata"].get("resourceVersion", ""))


def _how(error: ApiError) -> Refused:
    if not isinstance(error, ForbiddenError):
        return Refused.INVALID
    return Refused.NAMESPACE_ENDING if "being terminated" in error.message else Refused.FORBIDDEN
