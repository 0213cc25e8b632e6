"""Preflights: an annotation on a running pod asks what would be in the way of its capture."""

from agent.executor.api import Engine, LookRequest
from agent.pods import orders
from agent.pods.inflight import InFlight
from agent.pods.report import Reporter
from contract.api import keys
from contract.api.checkpoint import annotations_of
from contract.config.storage import Storage
from kube.api import Object


class PreflightController:
    """Answers for the pods that it is shown; nothing of them is touched but the annotation with the answer."""

    def __init__(self, engine: Engine, reporter: Reporter, storage: Storage) -> None:
        self._engine = engine
        self._storage = storage
        self._reporter = reporter
        self.in_flight = InFlight()

    def see(self, pod: Object) -> None:
        """Look at a pod that is new or has changed."""
        request = orders.look(pod, self._storage)
        if request is not None:
            asked = annotations_of(pod)[keys.ANN_PREFLIGHT]
            key = (pod["metadata"]["uid"], asked)
            self.in_flight.start(key, lambda: self._answer(pod, asked, request), lambda: None)

    async def _answer(self, pod: Object, asked: str, request: LookRequest) -> None:
        result = await self._engine.look(request)
        await self._reporter.looked(pod, asked, request.place, result)
