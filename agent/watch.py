"""Follows the pods of this node and gives the engine its orders."""

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

from agent import selection
from agent.orders import CaptureOrder, Engine, Outcome, RestoreOrder
from agent.report import Reporter
from agent.selection import Refuse, Site, Wait, WorkerEnded
from contract import keys
from contract.checkpoint import annotations_of, labels_of
from kube.errors import KubeError, NotFoundError
from kube.lease import Election
from kube.resources import CHECKPOINTS, JOBS, LEASES
from kube.seam import Kube
from kube.store import Key, Store

Object = dict[str, Any]
AGAIN_SECONDS: Final = 1.0
"""A container that has not started yet is looked for again this soon."""
logger = logging.getLogger(__name__)


class Watch:
    """Handles one pod at a time per key; several pods at once."""

    def __init__(
        self, kube: Kube, pods: Store, engine: Engine, reporter: Reporter, site: Site, now: Callable[[], datetime]
    ) -> None:
        self._kube = kube
        self._pods = pods
        self._engine = engine
        self._reporter = reporter
        self._site = site
        self._now = now

    async def handle(self, key: Key) -> float | None:
        """Do what the pod wants now; return in how many seconds to look again, None to wait for a change."""
        pod = self._pods.get(*key)
        if pod is None:
            return None
        if selection.is_source(pod):
            return await self._source(pod)
        if selection.is_restore_target(pod) and not selection.gone(pod):
            return await self._target(pod)
        return None

    async def _source(self, pod: Object) -> float | None:
        name = labels_of(pod).get(keys.LABEL_JOB_NAME, "")
        namespace = pod["metadata"]["namespace"]
        if not name:
            return None
        try:
            job = await self._kube.get(JOBS, name, namespace)
        except NotFoundError:
            return None
        match selection.capture(pod, job, self._site, self._now()):
            case Wait(seconds):
                return seconds
            case WorkerEnded(exit_code) if exit_code != 0:
                await self._reporter.worker_ended(pod, job, exit_code)
            case Refuse(reason, message):
                await self._reporter.capture_ended(pod, job, Outcome(ok=False, reason=reason, message=message))
            case CaptureOrder() as order:
                return await self._capture_alone(pod, job, order)
        return None

    async def _capture_alone(self, pod: Object, job: Object, order: CaptureOrder) -> float | None:
        """Capture while holding the Job's Lease: the controller sees by it that somebody is at work."""
        metadata = job["metadata"]
        answers: list[float | None] = []

        async def work() -> None:
            answers.append(await self._capture(pod, job, order))

        election = Election(
            self._kube, metadata["namespace"], metadata["name"], f"snapshot-agent/{order.place.pod_uid}"
        )
        await election.run(work)
        await self._forget_lease(metadata["namespace"], metadata["name"])
        return answers[0]

    async def _capture(self, pod: Object, job: Object, order: CaptureOrder) -> float | None:
        await self._reporter.capture_began(pod, job)
        outcome = await self._engine.capture(order)
        if outcome.retry:
            return AGAIN_SECONDS
        await self._reporter.capture_ended(pod, job, outcome)
        return None

    async def _forget_lease(self, namespace: str, name: str) -> None:
        try:
            await self._kube.delete(LEASES, name, namespace)
        except KubeError as error:
            logger.info("lease %s stays: %s", name, error)

    async def _target(self, pod: Object) -> float | None:
        wanted = selection.restore_targets(pod)
        if isinstance(wanted, Refuse):
            logger.warning("pod %s: %s", pod["metadata"]["name"], wanted.message)
            return None
        pauses = await asyncio.gather(*(self._one_target(pod, container) for container in wanted))
        return min((pause for pause in pauses if pause is not None), default=None)

    async def _one_target(self, pod: Object, container: str) -> float | None:
        order = await self._order(pod, container)
        if isinstance(order, Refuse):
            refused = Outcome(ok=False, reason=order.reason, message=order.message)
            await self._reporter.restore_ended(pod, container, refused, selection.container_id(pod, container))
            return None
        # Told beside the work, not before it: no API call stands in the way of a restore.
        began = asyncio.create_task(self._reporter.restore_began(pod, container))
        outcome = await self._engine.restore(order)
        await asyncio.gather(began, return_exceptions=True)
        if outcome.retry:
            return AGAIN_SECONDS
        await self._reporter.restore_ended(pod, container, outcome, outcome.container_id or order.place.container_id)
        return None

    async def _order(self, pod: Object, container: str) -> RestoreOrder | Refuse:
        metadata = pod["metadata"]
        name = annotations_of(pod).get(keys.ANN_CHECKPOINT, "")
        if not name:
            return Refuse("checkpoint-unnamed", f"the pod lacks the annotation {keys.ANN_CHECKPOINT}")
        try:
            checkpoint = await self._kube.get(CHECKPOINTS, name, metadata["namespace"])
        except NotFoundError:
            return Refuse("checkpoint-not-found", f"there is no DynamoCheckpoint {name} in {metadata['namespace']}")
        return selection.restore(pod, container, checkpoint, self._site)
