"""Look, plan, act, write the status, tell: once for every key that the queue hands out."""

import logging
from dataclasses import replace

from controller.checkpoints.act import Actor
from controller.checkpoints.actions import Action
from controller.checkpoints.metrics import Metrics
from controller.checkpoints.observe import Observer
from controller.checkpoints.observed import Observed
from controller.checkpoints.plan.plan import plan
from controller.runtime.manager import ManagerContext
from controller.runtime.plan import Plan
from kube.api import Object
from kube.errors import ConflictError
from kube.queue import CONFLICT_PAUSE
from kube.store import Key

logger = logging.getLogger(__name__)


class Reconciler:
    """Handles one checkpoint at a time, any number of them at once."""

    def __init__(self, context: ManagerContext, observer: Observer, actor: Actor, metrics: Metrics) -> None:
        self._context = context
        self._observer = observer
        self._actor = actor
        self._metrics = metrics

    async def handle(self, key: Key) -> float | None:
        """One pass; answers when to look again.

        Raises:
            KubeError: the pass could not be ended; it starts from the beginning next time.
        """
        with self._metrics.measured():
            observed = await self._observer.observe(key, self._context.now())
            if observed is None:
                return None
            try:
                return await self._pass(observed)
            except ConflictError:
                return CONFLICT_PAUSE

    async def _pass(self, observed: Observed) -> float | None:
        step = self._plan(observed)
        checkpoint, refusal = await self._actor.act(observed.checkpoint, step.actions)
        if refusal is not None:
            # The server's answer is one more observation: plan again, with it.
            observed = replace(observed, checkpoint=checkpoint, refusal=refusal)
            step = self._plan(observed)
            checkpoint, refusal = await self._actor.act(checkpoint, step.actions)
        if step.status is not None:
            before = observed.checkpoint.get("status") or {}
            checkpoint = await self._actor.write_status(checkpoint, before, step.status)
            logger.info("status", extra={"checkpoint": checkpoint["metadata"]["name"], **_shown(step.status)})
        self._tell(checkpoint, step)
        return step.requeue_after

    def _plan(self, observed: Observed) -> Plan[Action]:
        now = self._context.now()
        step = plan(observed, now, self._context.values)
        if observed.checkpoint.get("status") or step.status is None:
            return step
        # A new object: what follows from its first status is planned on that, unwritten; it saves one write of two.
        started = observed.checkpoint | {"status": step.status}
        further = plan(replace(observed, checkpoint=started), now, self._context.values)
        return further if further.status is not None else step

    def _tell(self, checkpoint: Object, step: Plan[Action]) -> None:
        for note in step.events:
            self._context.recorder.record(checkpoint, note.type, note.reason, note.message)
            self._metrics.told(note.reason)


def _shown(status: Object) -> dict[str, str]:
    # "message" itself is the log record's own.
    shown = {"phase": "phase", "jobName": "job", "message": "why"}
    return {key: str(status[name]) for name, key in shown.items() if status.get(name)}
