"""Wakes parked pods of a checkpoint when they are needed."""

import logging

from contract.api.times import format_time
from contract.pods.parking import parked_wanted, wake_patch
from controller.runtime.manager import ManagerContext
from controller.workloads.informers import PodInformers
from controller.workloads.spares.policy import to_wake
from kube.errors import ConflictError, NotFoundError
from kube.queue import CONFLICT_PAUSE
from kube.resources import PODS
from kube.store import Key, key_of

logger = logging.getLogger(__name__)


class Waker:
    """Looks at one checkpoint at a time."""

    def __init__(self, context: ManagerContext, informers: PodInformers) -> None:
        self._kube = context.kube
        self._recorder = context.recorder
        self._checkpoints = context.checkpoints
        self._informers = informers
        self._now = context.now

    async def handle(self, key: Key) -> float | None:
        """Wake the pods that are to run; of a checkpoint that was deleted none, as it could not be restored.

        Raises:
            KubeError: a call failed.
        """
        checkpoint = self._checkpoints.store.get(*key)
        if checkpoint is None or checkpoint["metadata"].get("deletionTimestamp"):
            return None
        parked = parked_wanted(checkpoint)
        for pod in to_wake(self._informers.naming(key), parked):
            namespace, name = key_of(pod)
            try:
                self._informers.learn(
                    await self._kube.patch(PODS, name, wake_patch(pod, format_time(self._now())), namespace)
                )
            except NotFoundError:
                continue
            except ConflictError:
                return CONFLICT_PAUSE
            words = f"the worker is needed: of its workload {parked} stay parked, and at least one runs"
            self._recorder.record(pod, "Normal", "ParkedWorkerWoken", words)
            logger.info("parked worker woken", extra={"pod": name, "checkpoint": key[1]})
        return None
