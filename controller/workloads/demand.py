"""Whether a pod still requests an automatic checkpoint whose capture waits for a node: noted on the object.

A capture pod that is Pending has a cluster autoscaler buy a GPU node, also for a workload that was deleted meanwhile.
Here is only said since when no pod requests it; what follows from that is the controller's own business.
"""

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Final

from contract.api import keys
from contract.api.checkpoint import annotations_of, is_automatic
from contract.api.conditions import is_true
from contract.api.states import ConditionType, Phase
from contract.api.times import format_time, parse_time
from controller.runtime.manager import ManagerContext
from controller.workloads import pods
from controller.workloads.owners import Owners
from kube.api import Object
from kube.errors import NotFoundError
from kube.resources import CHECKPOINTS
from kube.store import key_of

LOOK_SECONDS: Final = 60.0
"""Seconds between looks at the workload of a checkpoint that no pod names: no event says when that goes."""
YOUNG_SECONDS: Final = 5.0
"""Seconds in which a checkpoint's workload may be made after it: a graph's Deployment is."""


def waits_for_node(checkpoint: Object) -> bool:
    """Say whether it is automatic and its capture is to come, or waits for a node."""
    status, metadata = checkpoint.get("status") or {}, checkpoint["metadata"]
    if not is_automatic(checkpoint) or metadata.get("deletionTimestamp") or not _workload(checkpoint):
        return False
    unfinished = status.get("phase", Phase.PENDING) in (Phase.PENDING, Phase.CREATING)
    return unfinished and not is_true(checkpoint, ConditionType.SCHEDULED)


def mark(checkpoint: Object, now: datetime, *, wanted: bool) -> Object | None:
    """Return the annotations that say so; None: they do."""
    noted = keys.ANN_UNWANTED in annotations_of(checkpoint)
    if wanted == (not noted):
        return None
    return {keys.ANN_UNWANTED: None if wanted else format_time(now)}


class Demand:
    """Looks after one checkpoint at a time."""

    def __init__(self, context: ManagerContext, owners: Owners) -> None:
        self._kube = context.kube
        self._checkpoints = context.checkpoints
        self._now: Callable[[], datetime] = context.now
        self._owners = owners

    async def look(self, checkpoint: Object, users: Iterable[Object]) -> float | None:
        """Note whether it is requested; answers when to look again although no pod changed.

        Args:
            checkpoint: as it is known.
            users: the pods that name it.

        Raises:
            KubeError: a call failed.
        """
        used, waits = any(pods.alive(pod) for pod in users), waits_for_node(checkpoint)
        if used or not waits:
            # Without a node to wait for only a pod takes the note off: a workload without one asks for nothing.
            settled = used or (checkpoint.get("status") or {}).get("phase") == Phase.READY
            await self._note(checkpoint, mark(checkpoint, self._now(), wanted=True) if settled else None)
            return None
        left = YOUNG_SECONDS - (self._now() - parse_time(checkpoint["metadata"]["creationTimestamp"])).total_seconds()
        if left > 0:
            return left
        wanted = await self._owners.exists(_workload(checkpoint), key_of(checkpoint)[0])
        await self._note(checkpoint, mark(checkpoint, self._now(), wanted=wanted))
        return LOOK_SECONDS

    async def _note(self, checkpoint: Object, annotations: Object | None) -> None:
        if annotations is None:
            return
        namespace, name = key_of(checkpoint)
        try:
            body = {"metadata": {"annotations": annotations}}
            self._checkpoints.learn(await self._kube.patch(CHECKPOINTS, name, body, namespace))
        except NotFoundError:
            return


def _workload(checkpoint: Object) -> str:
    return annotations_of(checkpoint).get(keys.ANN_WORKLOAD, "")
