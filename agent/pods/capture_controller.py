"""Capture pods of this node: from a ready worker to the last word on its Job.

Everything written about a Job is written while holding its Lease, so two agents never capture the same Job nor
contradict each other. The Lease has the Job's name; the controller sees by it that an agent is at work.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Final

from agent.executor.api import CaptureRequest, Engine, ExecutionResult, ImageConfigRequest
from agent.pods import orders, selection
from agent.pods.inflight import InFlight
from agent.pods.report import Reporter, outcome_of
from agent.pods.selection import Rejection, Wait
from contract.api.states import AgentReason
from contract.config.storage import Storage
from kube.api import KubeClient, Object
from kube.errors import KubeError, NotFoundError
from kube.lease import Election, Terms
from kube.resources import JOBS, LEASES
from kube.store import Store

TERMS: Final = Terms(lease=30, deadline=20.0, retry=10.0)
"""Of a Job's Lease."""
POLL: Final = 0.2
PATIENCE: Final = 20.0
"""Seconds that standby may not be there though the worker is ready."""
logger = logging.getLogger(__name__)


class CaptureController:
    """Captures the containers of the pods in *pods* that belong to capture Jobs.

    Args:
        kube: the API server.
        pods: this node's pods.
        engine: does the work.
        reporter: reports it.
        storage: as configured.
        identity: holder of Leases; the same after a restart of this agent, which may then continue at once.
    """

    def __init__(
        self, kube: KubeClient, pods: Store, engine: Engine, reporter: Reporter, storage: Storage, identity: str
    ) -> None:
        self._kube = kube
        self._pods = pods
        self._engine = engine
        self._reporter = reporter
        self._storage = storage
        self._identity = identity
        self._ready_since: dict[str, float] = {}
        self._settled: set[str] = set()
        self._provided: set[str] = set()
        self._rejected: dict[str, Rejection] = {}
        """Why a pod's container will never start its worker."""
        self._looked_at: dict[str, Object] = {}
        self.in_flight = InFlight()

    def see(self, pod: Object) -> None:
        """Look at a capture pod that is new or has changed."""
        uid = pod["metadata"]["uid"]
        if selection.is_ready(pod):
            self._ready_since.setdefault(uid, _now())
        else:
            self._ready_since.pop(uid, None)
        if uid in self._settled or not selection.job_name(pod):
            return
        if uid not in self._provided and (request := orders.provide_image_config(pod)) is not None:
            self.in_flight.start((uid, "image"), lambda: self._provide_image_config(pod, request), lambda: None)
        if uid not in self._rejected and not selection.worth_a_look(pod):
            return
        namespace, name = pod["metadata"].get("namespace", ""), pod["metadata"]["name"]
        self.in_flight.start(uid, lambda: self._serve(pod), lambda: self._look_again(namespace, name, uid))

    def forget(self, pod: Object) -> None:
        """Forget a pod that no longer exists."""
        uid = pod["metadata"]["uid"]
        self._ready_since.pop(uid, None)
        self._looked_at.pop(uid, None)
        self._rejected.pop(uid, None)
        self._settled.discard(uid)
        self._provided.discard(uid)
        self.in_flight.cancel(uid)
        self.in_flight.cancel((uid, "image"))

    def _look_again(self, namespace: str, name: str, uid: str) -> None:
        """Look at the pod again if it has changed since the work that has just ended last looked at it."""
        pod = self._pods.get(namespace, name)
        if pod is not None and pod["metadata"]["uid"] == uid and pod is not self._looked_at.get(uid):
            self.see(pod)

    async def _provide_image_config(self, pod: Object, request: ImageConfigRequest) -> None:
        """Give standby the command line of a stock image; if it cannot be read, the capture has failed."""
        uid = pod["metadata"]["uid"]
        outcome = await self._patiently(lambda: self._engine.provide_image_config(request))
        self._provided.add(uid)
        if not outcome.ok:
            self._rejected[uid] = Rejection(AgentReason(outcome.reason), outcome.message)
            self.see(self._newest(pod))

    async def _serve(self, pod: Object) -> None:
        """Wait for the moment, then capture or say why not."""
        uid = pod["metadata"]["uid"]
        while True:
            pod = self._newest(pod)
            job = await self._job(pod)
            if job is None or selection.terminal(job) or not selection.owns(job, pod):
                self._settled.add(uid)
                return
            selected = self._select(pod, job)
            if not isinstance(selected, Wait):
                await self._alone(pod, job)
                return
            if selected.again is None:
                self._looked_at[uid] = pod
                return
            await asyncio.sleep(selected.again)

    def _select(self, pod: Object, job: Object) -> CaptureRequest | Rejection | Wait:
        if (rejection := self._rejected.get(pod["metadata"]["uid"])) is not None and not selection.terminal(job):
            return rejection
        since = self._ready_since.get(pod["metadata"]["uid"])
        return orders.capture(pod, job, 0.0 if since is None else _now() - since, self._storage)

    async def _alone(self, pod: Object, job: Object) -> None:
        """Do what the pod asks for while holding the Job's Lease, so that no other agent does."""
        metadata = job["metadata"]
        election = Election(self._kube, metadata["namespace"], metadata["name"], self._identity, TERMS)
        await election.run(lambda: self._capture(pod))
        try:
            await self._kube.delete(LEASES, metadata["name"], metadata["namespace"])
        except KubeError as error:
            logger.info("lease %s stays: %s", metadata["name"], error)

    async def _capture(self, pod: Object) -> None:
        # Another agent may have held the Lease meanwhile, so everything is looked at again.
        pod = self._newest(pod)
        job = await self._job(pod)
        selected = Wait("the Job no longer exists") if job is None else self._select(pod, job)
        if job is None or isinstance(selected, Wait):
            return
        if isinstance(selected, Rejection):
            outcome, container = outcome_of(selected), ""
            facts = {"job": f"{pod['metadata'].get('namespace', '')}/{selection.job_name(pod)}"}
            logger.warning("not captured: %s", selected.message, extra=facts | {"reason": selected.reason.value})
        else:
            container = selected.place.container
            await self._reporter.capture_begun(job, pod, selected)
            request = selected
            outcome = await self._patiently(lambda: self._engine.capture(request))
        await self._reporter.captured(job, pod, container, outcome)
        self._settled.add(pod["metadata"]["uid"])

    @staticmethod
    async def _patiently(act: Callable[[], Awaitable[ExecutionResult]]) -> ExecutionResult:
        give_up_at = _now() + PATIENCE
        while True:
            outcome = await act()
            if not outcome.retry or _now() > give_up_at:
                return replace(outcome, retry=False)
            await asyncio.sleep(POLL)

    async def _job(self, pod: Object) -> Object | None:
        try:
            return await self._kube.get(JOBS, selection.job_name(pod), pod["metadata"].get("namespace"))
        except NotFoundError:
            return None

    def _newest(self, pod: Object) -> Object:
        known = self._pods.get(pod["metadata"].get("namespace", ""), pod["metadata"]["name"])
        return known if known is not None and known["metadata"]["uid"] == pod["metadata"]["uid"] else pod


def _now() -> float:
    return asyncio.get_running_loop().time()
