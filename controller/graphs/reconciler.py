"""The reconciler of DynamoGraphDeployments."""

from collections.abc import Iterable

from controller.graphs.act import Actor
from controller.graphs.actions import Action
from controller.graphs.observe import Observer
from controller.graphs.observed import Observed
from controller.graphs.plan import orphans, plan
from controller.runtime import reconciler
from controller.runtime.manager import ManagerContext
from controller.runtime.plan import Plan
from kube.api import Object
from kube.store import Key, key_of

Refusals = dict[str, str]
"""The server's words by ``Kind/name`` of what it refused."""


class Reconciler(reconciler.Reconciler[Observed, Action, Refusals]):
    """Handles one graph at a time, any number of them at once."""

    def __init__(self, context: ManagerContext, observer: Observer, actor: Actor) -> None:
        super().__init__(context)
        self._observer = observer
        self._actor = actor

    async def _observe(self, key: Key) -> Observed | None:
        graph = await self._observer.graph(key)
        if graph is None or graph["metadata"].get("deletionTimestamp"):
            # Kubernetes' garbage collection removes the Deployments. Checkpoints may be kept, so they are ours to end.
            await self._actor.act(orphans(self._observer.labelled(key), ""))
            return None
        return await self._observer.observe(graph, {})

    def _plan(self, observed: Observed) -> Plan[Action]:
        return plan(observed, self._context.now(), self._context.values)

    async def _act(self, observed: Observed, actions: Iterable[Action]) -> tuple[Object, Refusals | None]:
        return observed.graph, await self._actor.act(actions)

    async def _with_refusal(self, observed: Observed, obj: Object, refusal: Refusals) -> Observed:
        # Looked at again, since the actions that were not refused have changed what is there.
        del observed
        return await self._observer.observe(obj, refusal)

    async def _write_status(self, obj: Object, observed: Observed, status: Object) -> Object:
        del observed
        return await self._actor.write_status(obj, status)

    def _log_fields(self, obj: Object, status: Object) -> dict[str, object]:
        return {"graph": key_of(obj), "state": status["state"]}
