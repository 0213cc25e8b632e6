"""Pods that were to be restored and of which no agent speaks: the controller says so, in an Event of the pod."""

from typing import Final

from contract.api.states import RestoreEvent
from contract.remedies.restores import RESTORE
from controller.runtime.manager import ManagerContext
from controller.workloads import pods
from controller.workloads.informers import PodInformers
from kube.store import Key

PATIENCE: Final = 20.0
"""Seconds: an agent claims a container within one, and standby has started the worker cold after some."""


class SilentPods:
    """Looks at one pod at a time."""

    def __init__(self, context: ManagerContext, informers: PodInformers) -> None:
        self._recorder = context.recorder
        self._now = context.now
        self._informers = informers

    async def handle(self, key: Key) -> float | None:
        """Say that no agent speaks of a pod; return the seconds until it is time to.

        Raises:
            KubeError: an Event could not be made.
        """
        pod = self._informers.get(key)
        since = pods.running_since(pod) if pod is not None and pods.awaits_word(pod) else None
        if pod is None or since is None:
            return None
        age = (self._now() - since).total_seconds()
        if age < PATIENCE:
            return PATIENCE - age
        row = RESTORE[RestoreEvent.AGENT_SILENT]
        words = f"{row.meaning} Node {pod['spec']['nodeName']}. {row.remedy} See {row.link}"
        await self._recorder.say_once(pod, "Warning", RestoreEvent.AGENT_SILENT, words)
        return None
