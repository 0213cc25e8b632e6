"""The reconciler of DynamoCheckpoints."""

from collections.abc import Iterable
from dataclasses import replace

from controller.checkpoints.act import Actor
from controller.checkpoints.actions import Action
from controller.checkpoints.metrics import Metrics
from controller.checkpoints.observe import Observer
from controller.checkpoints.observed import Observed, Refusal
from controller.checkpoints.plan.plan import plan
from controller.runtime import reconciler
from controller.runtime.manager import ManagerContext
from controller.runtime.plan import Plan
from kube.api import Object
from kube.recorder import EventSpec
from kube.store import Key


class Reconciler(reconciler.Reconciler[Observed, Action, Refusal]):
    """Handles one checkpoint at a time, any number of them at once."""

    def __init__(self, context: ManagerContext, observer: Observer, actor: Actor, metrics: Metrics) -> None:
        super().__init__(context)
        self._observer = observer
        self._actor = actor
        self._metrics = metrics

    async def handle(self, key: Key) -> float | None:
        """Make one pass, timed; see the base class."""
        with self._metrics.measured():
            return await super().handle(key)

    async def _observe(self, key: Key) -> Observed | None:
        return await self._observer.observe(key, self._context.now())

    def _plan(self, observed: Observed) -> Plan[Action]:
        now = self._context.now()
        step = plan(observed, now, self._context.values)
        if observed.checkpoint.get("status") or step.status is None:
            return step
        # A new object: what follows from its first status is planned on that, unwritten; it saves one write of two.
        started = observed.checkpoint | {"status": step.status}
        further = plan(replace(observed, checkpoint=started), now, self._context.values)
        return further if further.status is not None else step

    async def _act(self, observed: Observed, actions: Iterable[Action]) -> tuple[Object, Refusal | None]:
        return await self._actor.act(observed.checkpoint, actions)

    async def _with_refusal(self, observed: Observed, obj: Object, refusal: Refusal) -> Observed:
        # The rest of the look still holds: it is only moments old, and a refused action changed nothing.
        return replace(observed, checkpoint=obj, refusal=refusal)

    async def _write_status(self, obj: Object, observed: Observed, status: Object) -> Object:
        return await self._actor.write_status(obj, observed.checkpoint.get("status") or {}, status)

    def _record(self, obj: Object, events: Iterable[EventSpec]) -> None:
        for event in events:
            super()._record(obj, (event,))
            self._metrics.count_event(event.reason)

    def _log_fields(self, obj: Object, status: Object) -> dict[str, object]:
        # "message" itself is the log record's own.
        shown = {"phase": "phase", "jobName": "job", "message": "why"}
        fields = {key: str(status[name]) for name, key in shown.items() if status.get(name)}
        return {"checkpoint": obj["metadata"]["name"], **fields}
