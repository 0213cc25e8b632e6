"""Restore pods of this node: from the first sight of one to the final report about each of its containers.

The request is made as soon as a pod is bound here, before its container exists: what it needs from the API server is
fetched while the image is pulled, and the engine meets the container as it starts. Status updates of kubelet, which
lag, only say which container it was.
"""

import asyncio
import logging
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Final

from agent.executor.api import Engine, ExecutionResult, RejectRequest, RestoreRequest
from agent.pods import orders, selection
from agent.pods.inflight import InFlight
from agent.pods.report import Reporter
from agent.pods.selection import Rejection, Wait
from contract.api.reports import Filled
from contract.api.states import AgentReason
from contract.config.storage import Storage
from contract.pods.attempts import AttemptsError, attempts_of
from contract.pods.parking import is_woken
from kube.api import KubeClient, Object
from kube.errors import NotFoundError
from kube.resources import CHECKPOINTS

POLL: Final = 0.02
"""Seconds between attempts at a container that has not started: they are in the way of every restore."""
FRESH_SECONDS: Final = 30.0
"""How long a request is repeated before the DynamoCheckpoint is read again."""
PATIENCE: Final = 20.0
"""Seconds that a container may run without being claimable: standby waits 5, after a lost claim 10 more."""
STATUS_LAG: Final = 3.0
"""Seconds by which a pod's status may lag behind its containers; it is mostly one."""
LONG_SECONDS: Final = 1.0
"""A restore that ends sooner is not reported as running. Kubelet lets a second pass between two changes of a pod that
it acts on, so this one would keep it from asking the restored worker whether it is ready."""
ASK_PAUSE: Final = 1.5
"""Seconds between a change and the next that has kubelet ask again."""
MOST_ASKED: Final = 5
"""After that the readiness probe's own period is soon enough."""
MAX_HANDLED: Final = 8
"""Container ids remembered for one container name: those before ended long ago."""

logger = logging.getLogger(__name__)

Key = tuple[str, str]
"""Pod uid and container name."""


@dataclass
class _Known:
    """One container name of one pod, and what was done for it."""

    pod: Object
    """As seen last."""
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    handled: list[str] = field(default_factory=list)
    """Ids of its containers that were dealt with, oldest first."""
    announced: bool = False
    """That it is to be restored, or why it is not to be."""
    failed_canary: bool = False
    """A restore answered wrongly, whether the pod shows it already or not."""
    parked: str = ""
    """Id of the container whose worker is parked, whether the pod shows it already or not."""
    reported_running: str = ""
    """Id of the container whose restore was reported as running."""


class RestoreController:
    """Restores containers of the pods that it is shown."""

    def __init__(
        self, kube: KubeClient, engine: Engine, reporter: Reporter, storage: Storage, attempts: int = 1
    ) -> None:
        self._kube = kube
        self._engine = engine
        self._reporter = reporter
        self._storage = storage
        self._attempts = attempts
        self._known: dict[Key, _Known] = {}
        self._is_draining = False
        self.in_flight = InFlight()

    def see(self, pod: Object) -> None:
        """Look at a restore pod that is new or has changed."""
        names = selection.targets(pod)
        if isinstance(names, Rejection):
            known = self._know(pod, "")
            if not known.announced:
                known.announced = True
                self._reporter.restore_refused(pod, names)
            return
        for name in names:
            self._know(pod, name)
            self._look((pod["metadata"]["uid"], name))

    def forget(self, pod: Object) -> None:
        """Forget a pod that no longer exists."""
        uid = pod["metadata"]["uid"]
        for key in [key for key in self._known if key[0] == uid]:
            del self._known[key]
            self.in_flight.cancel(key)

    async def drain(self, seconds: float) -> None:
        """Begin nothing new; let what runs end within *seconds*, and wait for nothing that has not even started."""
        self._is_draining = True
        running = any(selection.running_id(known.pod, key[1]) for key, known in self._known.items())
        await self.in_flight.drain(seconds if running else min(seconds, STATUS_LAG))

    def _know(self, pod: Object, container: str) -> _Known:
        known = self._known.setdefault((pod["metadata"]["uid"], container), _Known(pod))
        known.pod = pod
        known.changed.set()
        return known

    def _look(self, key: Key) -> None:
        known, container = self._known.get(key), key[1]
        if known is None:
            return
        if key in self.in_flight:
            self._report_running(known, container)
            return
        parked = set() if is_woken(known.pod) else {known.parked}
        found = selection.wanted(known.pod, container, frozenset(known.handled) | parked - {""})
        if not isinstance(found, Wait):
            self.in_flight.start(key, lambda: self._restore(known, container), lambda: self._look(key))

    def _report_running(self, known: _Known, container: str) -> None:
        pod, found = known.pod, selection.running_id(known.pod, container)
        if not found or found == known.reported_running or selection.reported_id(pod, container) == found:
            return
        known.reported_running = found
        key = (pod["metadata"]["uid"], container, found)
        self.in_flight.start(key, lambda: self._restoring(known, container, found), lambda: None)

    async def _restoring(self, known: _Known, container: str, found: str) -> None:
        await asyncio.sleep(LONG_SECONDS)
        if (known.pod["metadata"]["uid"], container) in self.in_flight:
            await self._reporter.restoring(known.pod, container, found)

    async def _restore(self, known: _Known, container: str) -> None:
        """Make one request, and report how it ended."""
        checkpoint = await self._checkpoint(known.pod)
        request = orders.restore(known.pod, container, checkpoint, self._storage, self._attempts_of(known))
        if known.failed_canary and isinstance(request, RestoreRequest):
            request = RejectRequest(request.place, AgentReason.CANARY_FAILED, orders.AFTER_CANARY)
        if not known.announced:
            known.announced = True
            self._announce(known.pod, request)
        outcome = await self._insist(known, request)
        if outcome.retry:
            return
        known.failed_canary = known.failed_canary or outcome.reason == AgentReason.CANARY_FAILED
        if outcome.parked:
            known.parked = outcome.container_id
            await self._reporter.parked(known.pod, container, outcome)
        elif found := outcome.container_id or await self._id(known, container):
            known.handled = [*known.handled, found][-MAX_HANDLED:]
            await self._reporter.restored(known.pod, container, found, outcome)
            if outcome.ok:
                key = (known.pod["metadata"]["uid"], container, found, "ready")
                self.in_flight.start(key, lambda: self._ask(known, container), lambda: None)
                if (filling := outcome.filling) is not None:
                    key = (known.pod["metadata"]["uid"], container, found, "filled")
                    self.in_flight.start(key, lambda: self._note_fill(known, container, found, filling), lambda: None)

    async def _ask(self, known: _Known, container: str) -> None:
        """Have kubelet ask a restored worker until it is ready: a probe that came early is repeated a period later."""
        for number in range(1, MOST_ASKED + 1):
            await asyncio.sleep(ASK_PAUSE)
            if self._is_draining:
                return
            if selection.awaits_readiness(known.pod, container):
                await self._reporter.asks(known.pod, number)

    async def _note_fill(self, known: _Known, container: str, found: str, filling: "Future[Filled | None]") -> None:
        """Report the end of a fill; not while the pod is not ready, since kubelet looks at each change for a second."""
        awaited = 0
        while not self._is_draining and awaited < MOST_ASKED:
            await asyncio.sleep(ASK_PAUSE)
            if not filling.done():
                continue
            if not selection.awaits_readiness(known.pod, container):
                break
            awaited += 1
        if filling.done() and (filled := filling.result()) is not None:
            await self._reporter.filled(known.pod, container, found, filled)

    def _attempts_of(self, known: _Known) -> int:
        try:
            return attempts_of(known.pod, self._attempts)
        except AttemptsError as error:
            if not known.announced:
                self._reporter.attempts_ignored(known.pod, str(error))
            return self._attempts

    def _announce(self, pod: Object, request: RestoreRequest | RejectRequest) -> None:
        if isinstance(request, RestoreRequest):
            self._reporter.restore_requested(pod, request)
            return
        facts = {"pod": f"{request.place.namespace}/{request.place.pod}", "container": request.place.container}
        logger.warning("restore refused: %s", request.message, extra=facts | {"reason": request.reason.value})

    async def _insist(self, known: _Known, request: RestoreRequest | RejectRequest) -> ExecutionResult:
        """Repeat the request until it is carried out, or a container has run for so long that it will not be."""
        fresh_until, give_up_at = _now() + FRESH_SECONDS, 0.0
        while True:
            if isinstance(request, RejectRequest):
                outcome = await self._engine.reject(request)
            else:
                outcome = await self._engine.restore(request)
            if not outcome.retry:
                return outcome
            running = selection.running_id(known.pod, request.place.container)
            if request.place.container_id and running not in ("", request.place.container_id):
                return outcome  # made for the container before this one
            if running:
                give_up_at = give_up_at or _now() + PATIENCE
                if _now() > give_up_at:
                    return replace(outcome, retry=False)
            elif _now() > fresh_until:
                return outcome
            await asyncio.sleep(POLL)

    async def _id(self, known: _Known, container: str) -> str:
        """Return the id of the container that failed, once kubelet has reported it; empty if it does not."""
        with suppress(TimeoutError):
            async with asyncio.timeout(STATUS_LAG):
                while not selection.running_id(known.pod, container):
                    known.changed.clear()
                    await known.changed.wait()
        return selection.running_id(known.pod, container)

    async def _checkpoint(self, pod: Object) -> Object | None:
        name = orders.checkpoint_name(pod)
        if not name:
            return None
        try:
            return await self._kube.get(CHECKPOINTS, name, pod["metadata"].get("namespace"))
        except NotFoundError:
            return None


def _now() -> float:
    return asyncio.get_running_loop().time()
