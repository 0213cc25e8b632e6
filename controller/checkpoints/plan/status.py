"""The status of a checkpoint as planners hand it on: a value. Every change makes a new one; the last one is written."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

from contract.api.states import CheckpointReason, ConditionType, Phase
from contract.api.times import format_time
from controller.checkpoints.actions import Action
from controller.checkpoints.reasons import NORMAL, Problem, note
from kube.api import Object
from kube.errors import bounded
from kube.recorder import EventSpec

MAX_MESSAGE: Final = 1000
"""Characters of a message; an Event holds 1024."""
OF_ONE_ARTIFACT: Final = (
    "jobName",
    "createdAt",
    "message",
    "location",
    "storageType",
    "storageClaim",
    "size",
    "manifestDigest",
    "proof",
    "image",
    "source",
)
"""Fields that a new version starts without."""
PHASE_REASONS: Final = {
    Phase.PENDING: CheckpointReason.PENDING,
    Phase.CREATING: CheckpointReason.CREATING,
    Phase.READY: CheckpointReason.CHECKPOINT_READY,
    Phase.FAILED: CheckpointReason.CHECKPOINT_FAILED,
}


@dataclass(frozen=True, slots=True)
class Status:
    """A status as planned so far. The objects in it are shared with the informer's copy and never changed in place."""

    before: Object
    """As the API server has it."""
    fields: Object
    generation: int | None
    now: datetime
    problem: Problem | None = None
    """What it waits for or failed of; it becomes the message and the reason of condition Ready."""
    events: tuple[EventSpec, ...] = ()
    """Those besides the Events that follow from the status itself."""

    @classmethod
    def of(cls, checkpoint: Object, now: datetime) -> "Status":
        """Return the status that *checkpoint* has."""
        before: Object = checkpoint.get("status") or {}
        return cls(before, before, checkpoint["metadata"].get("generation"), now)

    @property
    def phase(self) -> str:
        """The phase; empty before the first pass."""
        return str(self.fields.get("phase") or "")

    @property
    def job_name(self) -> str:
        """The capture Job's name."""
        return str(self.fields.get("jobName") or "")

    @property
    def checkpoint_id(self) -> str:
        """The artifact id."""
        return str(self.fields.get("checkpointID") or "")

    @property
    def message(self) -> str:
        """The message."""
        return str(self.fields.get("message") or "")

    @property
    def attempts(self) -> int:
        """Captures started for the wanted version of an automatic checkpoint."""
        return int(self.fields.get("attempts") or 0)

    @property
    def versions(self) -> tuple[Object, ...]:
        """The artifacts in storage, the newest last."""
        return tuple(self.fields.get("versions") or ())

    def condition(self, kind: ConditionType) -> Object | None:
        """Return the condition of that type."""
        return _find(self.fields, kind)

    def reason_before(self, kind: ConditionType) -> str:
        """Return the reason that a condition had before this pass; empty if it had none."""
        return str((_find(self.before, kind) or {}).get("reason", ""))

    def with_fields(self, **fields: Any) -> "Status":  # noqa: ANN401 - any JSON value
        """Return it with *fields*; None and empty text remove one."""
        merged = {**self.fields, **fields}
        for name, value in fields.items():
            if value is None or value == "":
                del merged[name]
        # Spelled out, since a plan makes some ten changes, and dataclasses.replace is slower than the change itself.
        return Status(self.before, merged, self.generation, self.now, self.problem, self.events)

    def with_version(self, entry: Object) -> "Status":
        """Return it with an artifact; an entry of the same version is replaced, in its place."""
        others = {str(each.get("version")): each for each in self.versions}
        return self.with_fields(versions=list((others | {str(entry["version"]): entry}).values()))

    def without_version(self, version: str) -> "Status":
        """Without that artifact."""
        return self.with_fields(versions=[each for each in self.versions if each.get("version") != version] or None)

    def with_event(self, event: EventSpec) -> "Status":
        """Return it with an Event that is recorded if the status changes."""
        return replace(self, events=(*self.events, event))

    def with_condition(
        self, kind: ConditionType, *, met: bool, reason: CheckpointReason, message: str = ""
    ) -> "Status":
        """Return it with a condition; its transition time moves only when it turns."""
        status = "True" if met else "False"
        before = self.condition(kind)
        since = before["lastTransitionTime"] if before and before["status"] == status else format_time(self.now)
        entry: Object = {
            "type": kind.value,
            "status": status,
            "reason": reason.value,
            "message": bounded(message, MAX_MESSAGE),
            "lastTransitionTime": since,
        }
        if self.generation is not None:
            entry["observedGeneration"] = self.generation
        entries = list(self.fields.get("conditions") or ())
        if before is None:
            entries.append(entry)
        return self.with_fields(conditions=[entry if each is before else each for each in entries])

    def unmet(self, kind: ConditionType, problem: Problem) -> "Status":
        """Return it with a condition that is False because of *problem*."""
        return self.with_condition(kind, met=False, reason=problem.reason, message=problem.message)

    def restarted(self) -> "Status":
        """Back to Pending, with nothing kept of an earlier attempt but the artifacts that are in storage."""
        # Only a retry starts from Pending, and it counts on; anything else is a new request.
        attempts = self.fields.get("attempts") if self.phase == Phase.PENDING else None
        cleared = dict.fromkeys((*OF_ONE_ARTIFACT, "conditions"))
        return self.with_fields(phase=Phase.PENDING.value, attempts=attempts, **cleared)

    def failed(self, problem: Problem) -> "Status":
        """Return it in phase Failed, for a reason."""
        return self.with_fields(phase=Phase.FAILED.value).waiting(problem)

    def waiting(self, problem: Problem | None) -> "Status":
        """Return it in the same phase, and what it waits for; None: for nothing but time."""
        return Status(self.before, self.fields, self.generation, self.now, problem, self.events)

    def finish(self) -> tuple[Object | None, tuple[EventSpec, ...]]:
        """Return the status to write, None if it equals the old one; and the Events that say what changed."""
        settled = self._settled()
        if settled.fields == settled.before:
            return None, ()
        return settled.fields, (*_transitions(settled), *settled.events)

    def _settled(self) -> "Status":
        """Return it with the message and the Ready condition that follow from phase and problem."""
        phase, problem, settled = Phase(self.phase), self.problem, self
        if problem is not None:
            settled = settled.with_fields(message=bounded(problem.message, MAX_MESSAGE))
        elif phase != Phase.FAILED:
            # What failed in an earlier pass keeps its message: the cause is found only once.
            settled = settled.with_fields(message=None)
        if phase != Phase.FAILED or problem is not None:
            reason = problem.reason if problem is not None else PHASE_REASONS[phase]
            ready = phase == Phase.READY
            settled = settled.with_condition(ConditionType.READY, met=ready, reason=reason, message=settled.message)
        if self.generation is not None:
            settled = settled.with_fields(observedGeneration=self.generation)
        return settled


@dataclass(frozen=True, slots=True)
class Step:
    """What one planner decided: the status so far, what to do before it is written, when to look again."""

    status: Status
    actions: tuple[Action, ...] = ()
    requeue: float | None = None
    """Seconds; None: changes alone decide."""


def _find(fields: Object, kind: ConditionType) -> Object | None:
    entries: Iterable[Object] = fields.get("conditions") or ()
    return next((entry for entry in entries if entry.get("type") == kind), None)


def _transitions(status: Status) -> Iterable[EventSpec]:
    """Events for what turned in this pass; a problem that goes on is not repeated."""
    turned = status.before.get("phase") != status.phase
    if status.phase == Phase.READY and turned:
        where = status.fields.get("location", "storage")
        yield note(CheckpointReason.CHECKPOINT_READY, f"checkpoint {status.checkpoint_id} is in {where}")
    if status.phase == Phase.CREATING and turned:
        begun = status.condition(ConditionType.JOB_CREATED) or {}
        if begun.get("reason") == CheckpointReason.POD_CAPTURE_STARTED:
            yield note(CheckpointReason.POD_CAPTURE_STARTED, begun["message"])
        else:
            yield note(CheckpointReason.JOB_CREATED, f"created Job {status.job_name}")
    problem = status.problem
    if problem is not None and (turned or status.reason_before(ConditionType.READY) != problem.reason):
        failed = status.phase == Phase.FAILED and problem.reason not in NORMAL
        yield note(
            CheckpointReason.CHECKPOINT_FAILED if failed else problem.reason, bounded(problem.message, MAX_MESSAGE)
        )
