"""Lets held pods go, and says on the pod what keeps it from doing so."""

import logging
from datetime import datetime
from typing import Final

from contract.api import keys
from contract.api.states import GateEnd, GateEvent
from contract.api.volume_claims import ClaimState, claim_problem, shape_claim
from contract.config.storage import storage_from_values
from controller.runtime.manager import ManagerContext
from controller.workloads import pods
from controller.workloads.checkpoint_view import CheckpointViews
from controller.workloads.gates.deadlines import Deadlines
from controller.workloads.gates.gate_policy import Hold, Lift, plan, without_claim
from controller.workloads.informers import PodInformers
from controller.workloads.metrics import Metrics
from kube.api import Object, PatchKind
from kube.errors import REFUSALS, AlreadyExistsError, ConflictError, KubeError, NotFoundError, bounded
from kube.queue import CONFLICT_PAUSE
from kube.resources import PERSISTENT_VOLUME_CLAIMS, PODS
from kube.store import Key, key_of

SAY_AGAIN_SECONDS: Final = 300.0
"""Between two Events about one pod whose gate may not be lifted: the tries in between are no news."""
MAX_REFUSAL: Final = 400
"""Characters of the server's words in an Event; the command behind them must not be cut off."""
BY_HAND: Final = (
    "kubectl patch pod {name} -n {namespace} --type=strategic -p "
    '\'{{"spec":{{"schedulingGates":[{{"$patch":"delete","name":"{gate}"}}]}}}}\''
)
_WEBHOOK_DOWN: Final = "failed calling webhook"
"""The API server's words if another webhook must be asked and does not answer; it sends them with a 500."""
_NOW: Final = {
    GateEnd.CHECKPOINT_READY: "the pod restores from it",
    GateEnd.VOLUME_CLAIM_UNAVAILABLE: "until then the pod cannot start; one made in its place starts cold",
}
"""What becomes of the pod, where it is not a cold start."""
logger = logging.getLogger(__name__)


class GateController:
    """Looks at one pod at a time."""

    def __init__(
        self, context: ManagerContext, informers: PodInformers, sights: CheckpointViews, metrics: Metrics
    ) -> None:
        self._kube = context.kube
        self._recorder = context.recorder
        self._now = context.now
        self._informers = informers
        self._sights = sights
        self._metrics = metrics
        self._wait_seconds = context.values.wait_timeout_seconds
        self._claims = context.claims
        self._deadlines = Deadlines(context.kube)
        self._storage = storage_from_values(context.values)
        self._refused: dict[Key, datetime] = {}
        """When a refusal was last reported, of the pods that are refused now."""

    async def handle(self, key: Key) -> float | None:
        """Let the pod go where it is time; answers when to look again.

        Raises:
            KubeError: a call failed.
        """
        told = self._refused.pop(key, None)
        pod = self._informers.get(key)
        if pod is None:
            return None
        allowed = await self._deadlines.of(pod) if pods.held(pod) else None
        step = plan(pod, self._sights.of(pods.checkpoint_key(pod)), self._now(), self._wait_seconds, allowed)
        match step:
            case Hold(seconds, problem):
                if problem:
                    rule = f"annotation {keys.ANN_POLICY}: {keys.POLICY_REQUIRE} keeps the pod from starting cold"
                    await self._recorder.say_once(pod, "Warning", GateEvent.KEPT, f"{problem}; {rule}")
                return seconds
            case Lift():
                return await self._lift(pod, await self._startable(pod, step), told)
            case None:
                return None

    async def _startable(self, pod: Object, step: Lift) -> Lift:
        """Return the same step, or that the pod, let go, cannot start: the claim that it mounts is not there."""
        namespace, _ = key_of(pod)
        if self._claims is None or pods.store_claim(pod) != self._storage.pvc_name:
            return step
        state, refusal = self._claims.of(namespace), ""
        if state == ClaimState.MISSING and self._storage.create:
            # No capture came so far that the claim was made with it; the pod has been promised to start all the same.
            state, refusal = await self._make_claim(namespace)
        problem = claim_problem(state, f"{namespace}/{self._storage.pvc_name}")
        return without_claim(step, problem + refusal) if problem else step

    async def _make_claim(self, namespace: str) -> tuple[ClaimState, str]:
        try:
            await self._kube.create(PERSISTENT_VOLUME_CLAIMS, shape_claim(namespace, self._storage), namespace)
        except AlreadyExistsError:
            return ClaimState.THERE, ""
        except REFUSALS as error:
            return ClaimState.MISSING, f" ({bounded(str(error), MAX_REFUSAL)})"
        logger.info("claim made for a held pod", extra={"namespace": namespace, "claim": self._storage.pvc_name})
        return ClaimState.THERE, ""

    async def _lift(self, pod: Object, step: Lift, told: datetime | None) -> float | None:
        namespace, name = key_of(pod)
        try:
            changed = await self._kube.patch(PODS, name, step.patch, namespace, kind=PatchKind.STRATEGIC)
        except NotFoundError:
            return None
        except ConflictError:
            return CONFLICT_PAUSE
        except KubeError as error:
            if isinstance(error, REFUSALS) or _WEBHOOK_DOWN in str(error):
                self._say_refused(pod, step, str(error), told)
            raise
        self._informers.learn(changed)
        self._metrics.lifted(step.end)
        logger.info("gate lifted", extra={"pod": name, "why": step.end.value})
        ready = step.end == GateEnd.CHECKPOINT_READY
        words = f"{step.why}: {_NOW.get(step.end, 'the worker starts cold')}"
        await self._recorder.say_once(pod, "Normal" if ready else "Warning", GateEvent.LIFTED, f"{words} ({step.end})")
        return None

    def _say_refused(self, pod: Object, step: Lift, words: str, told: datetime | None) -> None:
        """Now and then, for as long as it lasts: a reader of the pod's Events need not look for our log."""
        key, now = key_of(pod), self._now()
        if told is None or (now - told).total_seconds() >= SAY_AGAIN_SECONDS:
            self._recorder.record(pod, "Warning", GateEvent.REFUSED, _refusal(pod, step, words))
            told = now
        self._refused[key] = told


def _refusal(pod: Object, step: Lift, words: str) -> str:
    namespace, name = key_of(pod)
    command = BY_HAND.format(name=name, namespace=namespace, gate=keys.SCHEDULING_GATE)
    return (
        f"{bounded(step.why, MAX_REFUSAL // 2)}, but the API server refuses to take the gate off: "
        f"{bounded(words, MAX_REFUSAL)}; change what refuses it, and the pod goes by itself. By hand: {command}"
    )
