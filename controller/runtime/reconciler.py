"""The loop that checkpoints and graphs share: observe, plan, act, write the status once, record Events.

A controller says what each of these means for its objects; in which order they happen, and what a refusal or a
conflict leads to, is decided here.
"""

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Generic, TypeVar

from controller.runtime.manager import ManagerContext
from controller.runtime.plan import Plan
from kube.api import Object
from kube.errors import ConflictError
from kube.queue import CONFLICT_PAUSE
from kube.recorder import EventSpec
from kube.store import Key

O = TypeVar("O")  # noqa: E741 - what was observed
A = TypeVar("A")
R = TypeVar("R")


class Reconciler(ABC, Generic[O, A, R]):
    """Handles one object at a time, any number of them at once; *R* is what the server's refusals are kept in."""

    def __init__(self, context: ManagerContext) -> None:
        self._context = context
        # Named for the controller: its lines can be filtered from those of the others.
        self._logger = logging.getLogger(type(self).__module__)

    async def handle(self, key: Key) -> float | None:
        """Make one pass; answers the seconds until the next look, None to wait for a change.

        Raises:
            KubeError: the pass could not be finished; it starts from the beginning next time.
        """
        try:
            observed = await self._observe(key)
            return await self._pass(observed) if observed is not None else None
        except ConflictError:
            # Our copy was older than the object. The watch brings the newer one within moments.
            return CONFLICT_PAUSE

    async def _pass(self, observed: O) -> float | None:
        plan = self._plan(observed)
        obj, refusal = await self._act(observed, plan.actions)
        if refusal:
            # The server's answer is one more observation. Planned with it at once, it is in this pass's status.
            # A second refusal is left to the next pass: planning until nothing is refused might never end.
            observed = await self._with_refusal(observed, obj, refusal)
            plan = self._plan(observed)
            obj, _ = await self._act(observed, plan.actions)
        if plan.status is not None:
            # After the actions: a status must never promise what was not done.
            obj = await self._write_status(obj, observed, plan.status)
            self._logger.info("status", extra=self._log_fields(obj, plan.status))
        # After the write: a pass that is repeated because of a conflict must not record its Events twice.
        self._record(obj, plan.events)
        return plan.requeue_after

    def _record(self, obj: Object, events: Iterable[EventSpec]) -> None:
        for event in events:
            self._context.recorder.record(obj, event.type, event.reason, event.message)

    @abstractmethod
    async def _observe(self, key: Key) -> O | None:
        """Everything about one object; None if there is nothing to plan."""

    @abstractmethod
    def _plan(self, observed: O) -> Plan[A]:
        """Return what to do; pure but for the clock."""

    @abstractmethod
    async def _act(self, observed: O, actions: Iterable[A]) -> tuple[Object, R | None]:
        """Carry out *actions*; answers the object as it is afterwards, and what the server refused."""

    @abstractmethod
    async def _with_refusal(self, observed: O, obj: Object, refusal: R) -> O:
        """Return the observation with the server's refusal in it, of the object as it is after the actions."""

    @abstractmethod
    async def _write_status(self, obj: Object, observed: O, status: Object) -> Object:
        """Write *status*, planned from *observed*, to *obj*.

        Raises:
            ConflictError: the object changed meanwhile.
        """

    @abstractmethod
    def _log_fields(self, obj: Object, status: Object) -> dict[str, object]:
        """Return what the log says of a status that was written."""
