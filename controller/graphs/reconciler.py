"""Look, plan, act, write the status, tell: once for every graph that the queue hands out."""

import logging

from controller.graphs.act import Actor
from controller.graphs.actions import Action
from controller.graphs.observe import Observer
from controller.graphs.plan import orphans, plan
from controller.runtime.manager import ManagerContext
from controller.runtime.plan import Plan
from kube.api import Object
from kube.errors import ConflictError
from kube.queue import CONFLICT_PAUSE
from kube.store import Key, key_of

logger = logging.getLogger(__name__)


class Reconciler:
    """Handles one graph at a time, any number of them at once."""

    def __init__(self, context: ManagerContext, observer: Observer, actor: Actor) -> None:
        self._context = context
        self._observer = observer
        self._actor = actor

    async def handle(self, key: Key) -> float | None:
        """One pass; answers when to look again.

        Raises:
            KubeError: the pass could not be ended; it starts from the beginning next time.
        """
        try:
            graph = await self._observer.graph(key)
            if graph is None or graph["metadata"].get("deletionTimestamp"):
                await self._actor.act(orphans(self._observer.labelled(key), ""))
                return None
            return await self._pass(graph)
        except ConflictError:
            return CONFLICT_PAUSE

    async def _pass(self, graph: Object) -> float | None:
        step = plan(await self._observer.observe(graph, {}), self._context.now(), self._context.values)
        refused = await self._actor.act(step.actions)
        if refused:
            # The server's answer is one more observation: plan again, with it.
            step = plan(await self._observer.observe(graph, refused), self._context.now(), self._context.values)
            await self._actor.act(step.actions)
        if step.status is not None:
            graph = await self._actor.write_status(graph, step.status)
            logger.info("status", extra={"graph": key_of(graph), "state": step.status["state"]})
        self._tell(graph, step)
        return step.requeue_after

    def _tell(self, graph: Object, step: Plan[Action]) -> None:
        for note in step.events:
            self._context.recorder.record(graph, note.type, note.reason, note.message)
