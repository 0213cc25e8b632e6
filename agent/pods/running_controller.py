"""Captures of running pods: a pod and a DynamoCheckpoint that name each other are captured, and the pod goes on."""

import asyncio
import logging
from typing import Final

from agent.executor.api import CaptureRequest, Engine
from agent.pods import orders, selection
from agent.pods.inflight import InFlight
from agent.pods.report import Reporter, outcome_of
from agent.pods.selection import Rejection, Role, Wait
from contract.api import keys
from contract.api.checkpoint import annotations_of
from contract.api.running import read_result, requested_checkpoint
from contract.api.states import AgentReason
from contract.config.storage import Storage
from kube.api import KubeClient, Object
from kube.errors import KubeError
from kube.resources import CHECKPOINTS

PATIENCE: Final = 120.0
"""Seconds that a request waits for its checkpoint and for the controller."""
logger = logging.getLogger(__name__)


class RunningController:
    """Looks after the pods that ask to be captured while they run."""

    def __init__(self, kube: KubeClient, engine: Engine, reporter: Reporter, storage: Storage) -> None:
        self._kube = kube
        self._engine = engine
        self._reporter = reporter
        self._storage = storage
        self._settled: dict[str, str] = {}
        """Pod -> its request that was dealt with."""
        self.in_flight = InFlight()

    def see(self, pod: Object) -> None:
        """Look at a pod that is new or has changed."""
        notes, uid = annotations_of(pod), pod["metadata"]["uid"]
        request = notes.get(keys.ANN_CAPTURE, "")
        answered = read_result(notes.get(keys.ANN_CAPTURE_RESULT, ""))
        if not requested_checkpoint(request) or not selection.alive(pod) or selection.role(pod) == Role.SOURCE:
            return
        if answered is not None and answered.request == request:
            self._settled[uid] = request  # by the controller, perhaps, while this agent waits for it
        if self._settled.get(uid) == request:
            return
        self.in_flight.start((uid, "capture"), lambda: self._serve(pod, request), lambda: None)

    def forget(self, pod: Object) -> None:
        """Forget a pod that no longer exists."""
        self._settled.pop(pod["metadata"]["uid"], None)
        self.in_flight.cancel((pod["metadata"]["uid"], "capture"))

    async def _serve(self, pod: Object, request: str) -> None:
        try:
            async with asyncio.timeout(PATIENCE):
                checkpoint, selected = await self._await_checkpoint(pod, requested_checkpoint(request))
        except TimeoutError:
            if self._settled.get(pod["metadata"]["uid"]) == request:
                return
            name, namespace = requested_checkpoint(request), pod["metadata"].get("namespace")
            checkpoint = await self._find(name, namespace)
            words = f"DynamoCheckpoint {name} did not ask for this pod within {PATIENCE:.0f} s; ask again"
            selected = Rejection(AgentReason.CHECKPOINT_NOT_READY, words)
        if checkpoint is None or isinstance(selected, Wait):
            logger.info("request %s of pod %s ends: %s", request, pod["metadata"]["name"], selected)
        elif isinstance(selected, Rejection):
            await self._reporter.captured_running(pod, request, checkpoint, None, outcome_of(selected))
        else:
            outcome = await self._engine.capture_running(selected)
            await self._reporter.captured_running(pod, request, checkpoint, selected, outcome)
        self._settled[pod["metadata"]["uid"]] = request

    async def _await_checkpoint(
        self, pod: Object, name: str
    ) -> tuple[Object | None, CaptureRequest | Rejection | Wait]:
        while True:
            checkpoint = await self._find(name, pod["metadata"].get("namespace"))
            selected = orders.capture_running(pod, checkpoint, self._storage)
            if not isinstance(selected, Wait) or selected.again is None:
                return checkpoint, selected
            await asyncio.sleep(selected.again)

    async def _find(self, name: str, namespace: str) -> Object | None:
        """Return a checkpoint; None if there is none, or the API server does not say now."""
        try:
            return await self._kube.get(CHECKPOINTS, name, namespace)
        except KubeError:
            return None
