"""Writes condition RestoresFailing of a checkpoint, and says in an Event when it turns."""

from collections.abc import Iterable

from contract.api.states import ConditionType
from contract.api.times import format_time
from contract.config.values import duration_seconds
from controller.runtime.manager import ManagerContext
from controller.workloads.restores.failing import Verdict, judge
from kube.api import Object
from kube.errors import ConflictError, NotFoundError
from kube.queue import CONFLICT_PAUSE
from kube.resources import CHECKPOINTS
from kube.store import key_of


class FailingRestores:
    """Looks at one checkpoint at a time."""

    def __init__(self, context: ManagerContext) -> None:
        self._kube = context.kube
        self._recorder = context.recorder
        self._checkpoints = context.checkpoints
        self._now = context.now
        self._in_a_row = context.values.failing_restores.in_a_row
        self._pause = float(duration_seconds(context.values.failing_restores.pause))

    async def look(self, checkpoint: Object, users: Iterable[Object]) -> float | None:
        """Write the condition if it has turned; answers in how many seconds it may turn again.

        Raises:
            KubeError: a call failed in a way that says nothing about the checkpoint.
        """
        verdict, again = judge(checkpoint, users, self._now(), self._in_a_row, self._pause)
        if verdict is None:
            return again
        try:
            self._checkpoints.learn(await self._write(checkpoint, verdict))
        except NotFoundError:
            return None
        except ConflictError:
            return CONFLICT_PAUSE
        self._recorder.record(
            checkpoint, "Warning" if verdict.failing else "Normal", verdict.reason.value, verdict.message
        )
        return again

    async def _write(self, checkpoint: Object, verdict: Verdict) -> Object:
        """Write it into the list of conditions as it was seen: another room writes the others."""
        entry = {
            "type": ConditionType.RESTORES_FAILING.value,
            "status": "True" if verdict.failing else "False",
            "reason": verdict.reason.value,
            "message": verdict.message,
            "lastTransitionTime": format_time(self._now()),
        }
        before = (checkpoint.get("status") or {}).get("conditions") or ()
        others = [each for each in before if each.get("type") != ConditionType.RESTORES_FAILING]
        metadata = {"resourceVersion": checkpoint["metadata"]["resourceVersion"]}
        body = {"metadata": metadata, "status": {"conditions": [*others, entry]}}
        namespace, name = key_of(checkpoint)
        return await self._kube.patch(CHECKPOINTS, name, body, namespace, subresource="status")
