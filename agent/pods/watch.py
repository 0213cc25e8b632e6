"""Watches the pods of this node and hands each to its controller.

A restart loses nothing: all that is known here comes from the API server.
"""

import asyncio
from typing import Final

from agent.pods import selection
from agent.pods.capture_controller import CaptureController
from agent.pods.preflight_controller import PreflightController
from agent.pods.restore_controller import RestoreController
from agent.pods.running_controller import RunningController
from agent.pods.selection import Role
from agent.pods.trigger_controller import TriggerController
from kube.informer import Informer
from kube.store import Change

DRAIN_SECONDS: Final = 20.0
"""For work in flight at shutdown; kubelet kills after 30."""


class Watch:
    """The handler of this node's pods: add it to their informer before that runs."""

    def __init__(
        self,
        pods: Informer,
        restores: RestoreController,
        captures: CaptureController,
        preflights: PreflightController,
        running: RunningController,
        triggers: TriggerController,
    ) -> None:
        self._restores = restores
        self._captures = captures
        self._preflights = preflights
        self._running = running
        self._triggers = triggers
        pods.add_handler(self.changed)

    def changed(self, change: Change) -> None:
        """Handle a pod that was added, changed or removed."""
        old, new = change
        if old is not None and (new is None or new["metadata"]["uid"] != old["metadata"]["uid"]):
            self._restores.forget(old)
            self._captures.forget(old)
            self._running.forget(old)
            self._triggers.forget(old)
        if new is None:
            return
        self._preflights.see(new)
        self._running.see(new)
        self._triggers.see(new)
        match selection.role(new):
            case Role.SOURCE:
                self._captures.see(new)
            case Role.TARGET:
                self._restores.see(new)

    async def run(self) -> None:
        """Run until cancelled; then start nothing new, and give what is in flight limited time to end."""
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.gather(
                self._restores.drain(DRAIN_SECONDS),
                self._captures.in_flight.drain(DRAIN_SECONDS),
                self._preflights.in_flight.drain(DRAIN_SECONDS),
                self._running.in_flight.drain(DRAIN_SECONDS),
                self._triggers.in_flight.drain(0),
            )
