"""How long the new workers of a service wait for their checkpoint: pure, from times in objects.

They wait while the checkpoint is being made, for ``waitTimeout`` at most: a capture that finds no node would keep a
service at zero replicas for ever. And they wait a moment longer once it is Ready, until every webhook knows that.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from contract.api.conditions import condition
from contract.api.states import ConditionType, StartupPolicy
from contract.api.times import parse_time
from controller.graphs.observed import Standing
from controller.graphs.services import Service

SETTLE_SECONDS: Final = 3.0
"""Seconds for which a checkpoint has been Ready before workers are started for it.

Pods are mutated by webhook replicas from informers of their own, which may lag ours by some milliseconds: a pod that
came sooner would start cold, though it has waited. Two seconds are enough, and the time has whole seconds.
"""


@dataclass(frozen=True, slots=True)
class Wait:
    """Whether, and since when, new workers wait."""

    left: float = 0.0
    """Seconds that they wait yet if nothing changes; 0: they do not wait."""
    since: datetime | None = None
    """Since when their checkpoint has not been there; None: it is there, or the service does not wait."""
    limit: float = 0.0
    """Seconds after which they start cold."""

    @property
    def in_vain(self) -> bool:
        """Whether they have waited as long as they may."""
        return self.since is not None and not self.left


NO_WAIT: Final = Wait()


@dataclass(frozen=True, slots=True)
class Waits:
    """What decides about the waiting of one graph's services."""

    before: Mapping[str, Any]
    """``status.checkpoints`` as it was written last."""
    now: datetime
    limit: float
    """The chart value ``waitTimeout`` in seconds."""

    def of(self, service: Service, name: str, standing: Standing, checkpoint: Mapping[str, Any] | None) -> Wait:
        """Say whether the new workers of *service* wait for the checkpoint of this *name*."""
        policy = service.policy
        if policy is None or policy.startup != StartupPolicy.WAIT_FOR_CHECKPOINT or service.replicas == 0:
            return NO_WAIT
        if standing == Standing.READY:
            return Wait(left=self._unsettled(checkpoint or {}))
        if standing != Standing.WAITING:
            return NO_WAIT
        since = self._since(service.name, name)
        return Wait(max(0.0, self.limit - (self.now - since).total_seconds()), since, self.limit)

    def _since(self, service: str, name: str) -> datetime:
        """Carried on in the status from pass to pass, so that another controller goes on from there."""
        entry = self.before.get(service) or {}
        said = entry.get("waitingSince") if entry.get("checkpointName") == name else None
        # A time of the future (a clock that was set back) must not make the wait longer.
        return min(parse_time(str(said)), self.now) if said else self.now

    def _unsettled(self, checkpoint: Mapping[str, Any]) -> float:
        entry = condition(checkpoint, ConditionType.READY) or {}
        since = entry.get("lastTransitionTime")
        age = (self.now - parse_time(str(since))).total_seconds() if since else SETTLE_SECONDS
        # Neither must the clock of another machine, which was the leader then.
        return SETTLE_SECONDS - age if abs(age) < SETTLE_SECONDS else 0.0
