"""Carry out what was planned. Each action is idempotent: done twice, or by another client before, it succeeds.

Deployments are applied server-side: what the service says is ours, and whatever others own (an autoscaler the
replicas that the service leaves out, a person an annotation) stays theirs.
"""

import logging
from collections.abc import Callable, Iterable
from typing import Final

from controller.graphs.actions import (
    Action,
    ApplyDeployment,
    CreateCheckpoint,
    DeleteCheckpoint,
    DeleteDeployment,
    PatchCheckpoint,
)
from kube.api import KubeClient, Object, PatchKind
from kube.errors import REFUSALS, AlreadyExistsError, ConflictError, NotFoundError
from kube.resources import CHECKPOINTS, DEPLOYMENTS, GRAPHS, Resource
from kube.store import key_of

FIELD_MANAGER: Final = "dynamo-snapshot-graphs"
Learn = Callable[[Resource, Object], None]
logger = logging.getLogger(__name__)


class Actor:
    """Carries out plans for one graph at a time."""

    def __init__(self, kube: KubeClient, learn: Learn) -> None:
        self._kube = kube
        self._learn = learn

    async def act(self, actions: Iterable[Action]) -> dict[str, str]:
        """Run *actions* in order; one that is refused keeps none of the others from being done.

        Returns:
            What was refused (``Kind/name``), and the server's words.

        Raises:
            KubeError: a call failed in a way that says nothing about the plan; or something changed meanwhile.
        """
        refused = {}
        for action in actions:
            try:
                await self._one(action)
            except REFUSALS as error:
                refused[_name(action)] = error.message
                logger.info("refused", extra={"object": _name(action), "why": error.message})
        return refused

    async def write_status(self, graph: Object, status: Object) -> Object:
        """Write the whole status, guarded by the version that it was planned for.

        Raises:
            ConflictError: the graph changed meanwhile.
        """
        namespace, name = key_of(graph)
        metadata = {"resourceVersion": graph["metadata"]["resourceVersion"]}
        body = {"metadata": metadata, "status": merge_patch(graph.get("status") or {}, status)}
        result = await self._kube.patch(GRAPHS, name, body, namespace, subresource="status")
        self._learn(GRAPHS, result)
        return result

    async def _one(self, action: Action) -> None:
        match action:
            case CreateCheckpoint(body):
                await self._create(body)
            case PatchCheckpoint(checkpoint, metadata):
                await self._patch(checkpoint, metadata)
            case DeleteCheckpoint(checkpoint):
                await self._delete(CHECKPOINTS, checkpoint)
            case ApplyDeployment(body):
                await self._apply(body)
            case DeleteDeployment(deployment):
                await self._delete(DEPLOYMENTS, deployment)

    async def _create(self, body: Object) -> None:
        namespace, name = key_of(body)
        try:
            made = await self._kube.create(CHECKPOINTS, body, namespace)
        except AlreadyExistsError:
            made = await self._kube.get(CHECKPOINTS, name, namespace)
        self._learn(CHECKPOINTS, made)

    async def _patch(self, checkpoint: Object, metadata: Object) -> None:
        namespace, name = key_of(checkpoint)
        # A merge patch replaces the list of owners, so it must be the list that was read.
        body = {"metadata": {"resourceVersion": checkpoint["metadata"]["resourceVersion"], **metadata}}
        self._learn(CHECKPOINTS, await self._kube.patch(CHECKPOINTS, name, body, namespace))

    async def _apply(self, body: Object) -> None:
        namespace, name = key_of(body)
        result = await self._kube.patch(
            DEPLOYMENTS, name, body, namespace, kind=PatchKind.APPLY, field_manager=FIELD_MANAGER, force=True
        )
        self._learn(DEPLOYMENTS, result)

    async def _delete(self, resource: Resource, obj: Object) -> None:
        namespace, name = key_of(obj)
        try:
            await self._kube.delete(resource, name, namespace, uid=obj["metadata"]["uid"])
        except (NotFoundError, ConflictError):
            logger.debug("deleted already", extra={"object": name})


def merge_patch(old: Object, new: Object) -> Object:
    """Return the merge patch that makes *new* of *old*; lists are replaced whole."""
    patch: Object = dict.fromkeys(old.keys() - new.keys())
    for key, value in new.items():
        before = old.get(key)
        patch[key] = merge_patch(before, value) if isinstance(before, dict) and isinstance(value, dict) else value
    return patch


def _name(action: Action) -> str:
    match action:
        case CreateCheckpoint(body) | ApplyDeployment(body):
            return f"{body['kind']}/{body['metadata']['name']}"
        case PatchCheckpoint(obj, _) | DeleteCheckpoint(obj):
            return f"{CHECKPOINTS.kind}/{obj['metadata']['name']}"
        case DeleteDeployment(obj):
            return f"{DEPLOYMENTS.kind}/{obj['metadata']['name']}"
