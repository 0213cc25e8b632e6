"""The status of a graph: what its services came to, as counts, conditions and one word."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

from contract.api.checkpoint import id_of
from contract.api.conditions import condition
from contract.api.states import GraphCondition, GraphReason, GraphState, StartupPolicy
from contract.api.times import format_time
from controller.graphs.objects import DEPLOYMENT_KIND
from controller.graphs.observed import Problem, Standing
from controller.graphs.services import Service
from controller.graphs.waits import NO_WAIT, Wait
from kube.api import Object
from kube.errors import bounded
from kube.recorder import EventSpec

MAX_MESSAGE: Final = 1000
_OF_DEPLOYMENTS: Final = frozenset(
    {GraphReason.NAME_TAKEN, GraphReason.DEPLOYMENT_REFUSED, GraphReason.SERVICE_INVALID}
)
_COUNTS: Final = ("updatedReplicas", "readyReplicas", "availableReplicas")


@dataclass(frozen=True, slots=True)
class ServiceOutcome:
    """What one service came to in this pass."""

    service: Service
    deployment: Object | None
    checkpoint_name: str = ""
    """Empty: its pods are no candidates."""
    checkpoint_id: str = ""
    """Empty: what the checkpoint itself says."""
    checkpoint: Object | None = None
    standing: Standing = Standing.NONE
    problem: Problem | None = None
    wait: Wait = NO_WAIT
    """How long its new workers wait for the checkpoint."""
    held: bool = False
    """New workers wait for the checkpoint."""
    changing: bool = False
    """The Deployment is being applied, so its counts are those of what was."""

    def waiting(self) -> ServiceOutcome:
        """Return the same, held."""
        return replace(self, held=True)

    def rolling(self) -> ServiceOutcome:
        """Return the same, changing."""
        return replace(self, changing=True)

    def failed(self, problem: Problem) -> ServiceOutcome:
        """Return the same, without a Deployment as it should be."""
        return replace(self, problem=problem)

    @property
    def cold_reason(self) -> GraphReason | None:
        """Why workers that should wait start cold; None: they do not."""
        policy = self.service.policy
        if policy is None or policy.startup != StartupPolicy.WAIT_FOR_CHECKPOINT:
            return None
        if self.standing == Standing.FAILED:
            return GraphReason.CHECKPOINT_FAILED
        return GraphReason.WAIT_TIMED_OUT if self.wait.in_vain else None

    @property
    def settled(self) -> bool:
        """Whether the Deployment has all the pods it wants, of its newest template."""
        live = self.deployment
        if self.changing or live is None:
            return False
        status = live.get("status") or {}
        wanted = int((live.get("spec") or {}).get("replicas", 1))
        seen = int(status.get("observedGeneration") or 0) >= int(live["metadata"].get("generation") or 0)
        counts = {int(status.get(field) or 0) for field in ("replicas", *_COUNTS)}
        return seen and counts == {wanted}


def next_status(
    graph: Object, outcomes: Sequence[ServiceOutcome], now: datetime
) -> tuple[Object | None, tuple[EventSpec, ...]]:
    """Return the new status, None if it equals the old one; and the Events that say what turned."""
    old: Object = graph.get("status") or {}
    state, ready = _ready(outcomes)
    conditions = [ready, _resolved(outcomes), *_cold(outcomes, condition(graph, GraphCondition.STARTED_COLD))]
    generation = graph["metadata"].get("generation")
    new: Object = {
        "state": state.value,
        "services": {each.service.name: _counts(each) for each in outcomes},
        "conditions": [_dated(graph, entry, now) for entry in conditions],
    }
    if checkpoints := {each.service.name: _checkpoint(each) for each in outcomes if each.checkpoint_name}:
        new["checkpoints"] = checkpoints
    if generation is not None:
        new["observedGeneration"] = generation
    return (None, ()) if new == old else (new, tuple(_turned(graph, new)))


def _checkpoint(outcome: ServiceOutcome) -> Object:
    found = outcome.checkpoint
    checkpoint_id = outcome.checkpoint_id or id_of(found or {})
    phase = ((found or {}).get("status") or {}).get("phase")
    result: Object = {"checkpointName": outcome.checkpoint_name, "ready": outcome.standing == Standing.READY}
    if checkpoint_id:
        result |= {"checkpointID": checkpoint_id, "identityHash": checkpoint_id}
    since = outcome.wait.since
    return result | ({"phase": phase} if phase else {}) | ({"waitingSince": format_time(since)} if since else {})


def _counts(outcome: ServiceOutcome) -> Object:
    live: Mapping[str, Any] = outcome.deployment or {}
    status = live.get("status") or {}
    counts = {field: int(status[field]) for field in _COUNTS if status.get(field)}
    wanted = int((live.get("spec") or {}).get("replicas", 0))
    return {"componentKind": DEPLOYMENT_KIND, "componentName": outcome.service.deployment, "replicas": wanted, **counts}


def _ready(outcomes: Sequence[ServiceOutcome]) -> tuple[GraphState, Object]:
    broken = [each for each in outcomes if each.problem is not None and each.problem.fatal]
    if broken:
        return GraphState.FAILED, _condition(
            GraphCondition.READY, met=False, reason=GraphReason.NOT_RECONCILED, message=_problems(broken)
        )
    held = [each.service.name for each in outcomes if each.held]
    if held:
        words = f"workers wait for their checkpoint: {', '.join(held)}"
        return GraphState.PENDING, _condition(
            GraphCondition.READY, met=False, reason=GraphReason.WAITING, message=words
        )
    unsettled = [each.service.name for each in outcomes if not each.settled]
    if unsettled:
        words = f"not all pods are available yet: {', '.join(unsettled)}"
        return GraphState.PENDING, _condition(
            GraphCondition.READY, met=False, reason=GraphReason.SOME_NOT_READY, message=words
        )
    return GraphState.SUCCESSFUL, _condition(GraphCondition.READY, met=True, reason=GraphReason.ALL_READY)


def _resolved(outcomes: Iterable[ServiceOutcome]) -> Object:
    wrong = [each for each in outcomes if each.problem is not None and each.problem.reason not in _OF_DEPLOYMENTS]
    if not wrong:
        return _condition(GraphCondition.CHECKPOINTS_RESOLVED, met=True, reason=GraphReason.RESOLVED)
    reason = wrong[0].problem.reason if wrong[0].problem else GraphReason.NOT_RECONCILED
    return _condition(GraphCondition.CHECKPOINTS_RESOLVED, met=False, reason=reason, message=_problems(wrong))


def _problems(outcomes: Iterable[ServiceOutcome]) -> str:
    return "; ".join(f"service {each.service.name}: {each.problem.message}" for each in outcomes if each.problem)


def _cold(outcomes: Iterable[ServiceOutcome], before: Object | None) -> list[Object]:
    """Keep the condition once it was ever true: its absence would not say that it is over."""
    cold = [(reason, each) for each in outcomes if (reason := each.cold_reason)]
    if cold:
        words = "; ".join(f"service {each.service.name} starts cold: {_why(each)}" for _, each in cold)
        # What needs a person goes before what may heal by itself.
        failed = any(reason == GraphReason.CHECKPOINT_FAILED for reason, _ in cold)
        reason = GraphReason.CHECKPOINT_FAILED if failed else GraphReason.WAIT_TIMED_OUT
        return [_condition(GraphCondition.STARTED_COLD, met=True, reason=reason, message=words)]
    if before is None:
        return []
    waiting = any(each.wait.since is not None for each in outcomes)
    reason = GraphReason.WAITING if waiting else GraphReason.CHECKPOINT_READY
    return [_condition(GraphCondition.STARTED_COLD, met=False, reason=reason)]


def _why(outcome: ServiceOutcome) -> str:
    said = ((outcome.checkpoint or {}).get("status") or {}).get("message") or "no message"
    if outcome.wait.in_vain:
        words = outcome.problem.message if outcome.problem is not None else said
        waited = f"{outcome.wait.limit:.0f} s (chart value waitTimeout)"
        return f"DynamoCheckpoint {outcome.checkpoint_name} was not Ready within {waited}: {words}"
    if outcome.problem is not None:
        return outcome.problem.message
    return f"DynamoCheckpoint {outcome.checkpoint_name} failed: {said}"


def _condition(kind: GraphCondition, *, met: bool, reason: GraphReason, message: str = "") -> Object:
    return {
        "type": kind.value,
        "status": "True" if met else "False",
        "reason": reason.value,
        "message": bounded(message, MAX_MESSAGE),
    }


def _dated(graph: Object, entry: Object, now: datetime) -> Object:
    """Return it with its time of transition, which moves only when the condition turns."""
    before, generation = condition(graph, entry["type"]), graph["metadata"].get("generation")
    same = before is not None and before["status"] == entry["status"]
    since = before["lastTransitionTime"] if before is not None and same else format_time(now)
    seen = {} if generation is None else {"observedGeneration": generation}
    return {**entry, "lastTransitionTime": since, **seen}


def _turned(graph: Object, new: Object) -> Iterable[EventSpec]:
    for entry in new["conditions"]:
        before = condition(graph, entry["type"]) or {}
        if (before.get("status"), before.get("reason")) == (entry["status"], entry["reason"]):
            continue
        bad = entry["status"] == ("True" if entry["type"] == GraphCondition.STARTED_COLD else "False")
        waits = entry["type"] == GraphCondition.READY and entry["reason"] != GraphReason.NOT_RECONCILED
        if bad and entry["message"] and not waits:
            reason = GraphCondition.STARTED_COLD if entry["type"] == GraphCondition.STARTED_COLD else entry["reason"]
            yield EventSpec("Warning", _camel(reason), entry["message"])


def _camel(reason: str) -> str:
    return "".join(part[:1].upper() + part[1:] for part in reason.split("_"))
