"""Makes the checkpoint that automatic pods ask for: one for each stamp, however many ask at once."""

import logging
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Final

from contract.api import keys
from contract.api.checkpoint import TargetError, annotations_of, next_version
from contract.api.running import CaptureResult
from contract.api.states import CaptureStatus, Phase, ReadySignal
from controller.runtime.manager import ManagerContext
from controller.workloads import pods
from controller.workloads.auto_checkpoint import (
    ForeignPodError,
    Workload,
    automatic_checkpoint,
    check_origin,
    fits,
    running_source,
)
from controller.workloads.checkpoint_view import CheckpointViews
from controller.workloads.demand import Demand
from controller.workloads.gates.gate_policy import CheckpointView
from controller.workloads.informers import PodInformers
from controller.workloads.last_used import last_use
from controller.workloads.owners import Owners
from controller.workloads.restores.failing_writer import FailingRestores
from kube.api import Object
from kube.errors import REFUSALS, AlreadyExistsError, NotFoundError
from kube.resources import CHECKPOINTS, PODS
from kube.store import Key, key_of

AGAIN_SECONDS: Final = 30.0
"""Between tries of what the server forbids (a quota, a policy): no event says when that changes."""
logger = logging.getLogger(__name__)


class AutoCheckpointController:
    """Looks after one checkpoint name at a time."""

    def __init__(
        self,
        context: ManagerContext,
        informers: PodInformers,
        sights: CheckpointViews,
        owners: Owners,
        wake: Callable[[Key], None],
    ) -> None:
        self._kube = context.kube
        self._recorder = context.recorder
        self._checkpoints = context.checkpoints
        self._values = context.values
        self._now = context.now
        self._informers = informers
        self._sights = sights
        self._owners = owners
        self._interest = Demand(context, owners)
        self._failing = FailingRestores(context)
        self._wake = wake

    async def handle(self, key: Key) -> float | None:
        """Make the checkpoint if a pod requests it; if it is there, note whether it is wanted, and its use.

        Raises:
            KubeError: a call failed in a way that says nothing about what was wanted.
        """
        users = self._informers.naming(key)
        sight = self._sights.of(key)
        if sight.deleted is not None:
            await self._withdraw(users, sight)
        if sight.checkpoint is not None:
            self._sights.refused(key, "")
            await self._capture_again(sight.checkpoint, users)
            looks = (
                await self._failing.look(sight.checkpoint, users),
                await self._interest.look(sight.checkpoint, users),
                await self._note_use(sight.checkpoint, users),
            )
            return min((each for each in looks if each is not None), default=None)
        asks = [p for p in users if pods.triggers(p) or (pods.asks(p) and not sight.outlived_by(p))]
        asking = sorted(asks, key=_age)
        if not users:
            self._sights.forget(key)
        return await self._make(key, asking) if asking else None

    async def _capture_again(self, checkpoint: Object, users: Iterable[Object]) -> None:
        """Have a checkpoint that failed made of the running pod whose worker has asked since."""
        if (checkpoint.get("status") or {}).get("phase") != Phase.FAILED:
            return
        for pod in sorted((pod for pod in users if pods.triggers(pod)), key=_age):
            try:
                workload = await self._origin(pod, checkpoint)
            except ForeignPodError as error:
                await self._refuse(pod, error, checkpoint["metadata"]["uid"])
                continue
            if workload is not None:
                await self._take(checkpoint, pod)
                return

    async def _take(self, checkpoint: Object, pod: Object) -> None:
        taken = {str(each.get("version")) for each in checkpoint["status"].get("versions") or ()}
        version = next_version(checkpoint, taken)
        spec = {"source": running_source(pod), "job": {"readySignal": ReadySignal.FILE.value}}
        body = {"metadata": {"annotations": {keys.ANN_ARTIFACT_VERSION: version}}, "spec": spec}
        namespace, name = key_of(checkpoint)
        with suppress(NotFoundError):
            self._checkpoints.learn(await self._kube.patch(CHECKPOINTS, name, body, namespace))

    async def _origin(self, pod: Object, checkpoint: Object | None = None) -> Workload | None:
        """Return where a pod comes from; None if it was deleted.

        Raises:
            ForeignPodError: it asks for what is not its own.
        """
        more = self._values.automatic.hash_annotations
        workload = await self._owners.workload_of(pod, lambda template: fits(pod, template, more))
        # Its template alone says nothing of its memory: a pod may name another's ReplicaSet as its owner.
        whole = await self._owners.whole(pod) if pods.triggers(pod) else None
        if workload is None or (whole is None and pods.triggers(pod)):
            return None
        check_origin(pod, workload, whole, more, checkpoint)
        return workload

    async def _refuse(self, pod: Object, error: ForeignPodError, checkpoint: str = "") -> None:
        """Answer its worker, and who asked in its place, on the pod; without a worker that asks, no more is asked."""
        words = f"{error} ({error.reason})"
        logger.warning("checkpoint not made: %s", words, extra={"pod": key_of(pod)[1]})
        self._recorder.record(pod, "Warning", "CheckpointNotMade", words)
        written = {keys.ANN_REQUEST: keys.REQUEST_WITHDRAWN}
        if pods.triggers(pod):
            notes = {keys.ANN_CHECKPOINT_STATUS: CaptureStatus.FAILED.value, keys.ANN_CAPTURE_MESSAGE: words}
            result = CaptureResult(annotations_of(pod)[keys.ANN_CAPTURE], checkpoint, "", notes)
            written = {keys.ANN_CAPTURE_RESULT: result.to_json()}
        namespace, name = key_of(pod)
        with suppress(NotFoundError):
            body = {"metadata": {"annotations": written}}
            self._informers.learn(await self._kube.patch(PODS, name, body, namespace))

    async def _withdraw(self, users: Iterable[Object], sight: CheckpointView) -> None:
        """Pods from before the deletion do not ask again; those that are held are let go, unless they may not."""
        for pod in users:
            asked = sight.outlived_by(pod) and pods.asks(pod)
            if asked and (pods.required(pod) or not pods.held(pod)):
                namespace, name = key_of(pod)
                body = {"metadata": {"annotations": {keys.ANN_REQUEST: keys.REQUEST_WITHDRAWN}}}
                try:
                    self._informers.learn(await self._kube.patch(PODS, name, body, namespace))
                except NotFoundError:
                    continue

    async def _make(self, key: Key, asking: list[Object]) -> float | None:
        for pod in asking:
            try:
                problem = self._forbidden(key) or await self._try(key, pod)
            except ForeignPodError as error:
                await self._refuse(pod, error)
                continue
            if problem is None:
                # Deleted meanwhile: the next one says as much.
                continue
            if problem and problem != self._sights.of(key).refusal:
                logger.warning("checkpoint not made: %s", problem, extra={"checkpoint": key[1], "pod": key_of(pod)[1]})
                self._recorder.record(pod, "Warning", "CheckpointNotMade", f"DynamoCheckpoint {key[1]}: {problem}")
            self._sights.refused(key, problem)
            self._wake(key)
            return AGAIN_SECONDS if problem else None
        return None

    async def _try(self, key: Key, pod: Object) -> str | None:
        """Make it from what *pod* says; empty if it is there now, None if the pod no longer exists."""
        workload = await self._origin(pod)
        if workload is None:
            return None
        try:
            made = await self._kube.create(CHECKPOINTS, automatic_checkpoint(pod, workload), key[0])
        except AlreadyExistsError:
            return ""
        except TargetError as error:
            return f"{workload.top}: {error}"
        except REFUSALS as error:
            return error.message
        self._checkpoints.learn(made)
        words = f"made from {workload.source['kind']} {workload.source['metadata']['name']}, first asked for by pod "
        self._recorder.record(made, "Normal", "AutomaticCheckpoint", words + key_of(pod)[1])
        return ""

    def _forbidden(self, key: Key) -> str:
        if not self._values.checkpoint.enabled:
            return "checkpoints are switched off; set the chart value checkpoint.enabled=true"
        if key[0] in self._values.webhook.excluded_namespaces:
            return f"namespace {key[0]} is excluded; see the chart value webhook.excludedNamespaces"
        return ""

    async def _note_use(self, checkpoint: Object, users: Iterable[Object]) -> float | None:
        if (checkpoint.get("status") or {}).get("phase") != Phase.READY:
            return None
        moment, again = last_use(checkpoint, users, self._now())
        if moment is not None:
            namespace, name = key_of(checkpoint)
            body = {"status": {"lastUsedAt": moment}}
            try:
                self._checkpoints.learn(
                    await self._kube.patch(CHECKPOINTS, name, body, namespace, subresource="status")
                )
            except NotFoundError:
                return None
        return again


def _age(pod: Object) -> tuple[str, str]:
    return str(pod["metadata"]["creationTimestamp"]), str(pod["metadata"]["name"])
