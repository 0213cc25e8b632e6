"""Lets held pods go."""

import logging

from contract import keys
from contract.states import GateEnd
from kube.errors import ConflictError, NotFoundError
from kube.part import Context
from kube.queue import CONFLICT_PAUSE
from kube.resources import PODS
from kube.seam import Object, PatchKind
from kube.store import Key, key_of
from workloads import pods
from workloads.copies import PodCopies
from workloads.gates import Hold, Lift, plan
from workloads.metrics import Metrics
from workloads.sights import Sights

logger = logging.getLogger(__name__)


class Gatekeeper:
    """Looks at one pod at a time."""

    def __init__(self, context: Context, copies: PodCopies, sights: Sights, metrics: Metrics) -> None:
        self._kube = context.kube
        self._recorder = context.recorder
        self._now = context.now
        self._copies = copies
        self._sights = sights
        self._metrics = metrics
        self._wait_seconds = context.values.wait_timeout_seconds

    async def handle(self, key: Key) -> float | None:
        """Let the pod go where it is time; answers when to look again.

        Raises:
            KubeError: a call failed.
        """
        pod = self._copies.get(key)
        if pod is None:
            return None
        step = plan(pod, self._sights.of(pods.checkpoint_key(pod)), self._now(), self._wait_seconds)
        match step:
            case Hold(seconds, problem):
                if problem:
                    rule = f"annotation {keys.ANN_POLICY}: {keys.POLICY_REQUIRE} keeps the pod from starting cold"
                    await self._recorder.say_once(pod, "Warning", "GateKept", f"{problem}; {rule}")
                return seconds
            case Lift():
                return await self._lift(pod, step)
            case None:
                return None

    async def _lift(self, pod: Object, step: Lift) -> float | None:
        namespace, name = key_of(pod)
        try:
            changed = await self._kube.patch(PODS, name, step.patch, namespace, kind=PatchKind.STRATEGIC)
        except NotFoundError:
            return None
        except ConflictError:
            return CONFLICT_PAUSE
        self._copies.learn(changed)
        self._metrics.lifted(step.end)
        logger.info("gate lifted", extra={"pod": name, "why": step.end.value})
        ready = step.end == GateEnd.CHECKPOINT_READY
        words = f"{step.why}: " + ("the pod restores from it" if ready else "the worker starts cold")
        await self._recorder.say_once(pod, "Normal" if ready else "Warning", "GateLifted", f"{words} ({step.end})")
        return None
