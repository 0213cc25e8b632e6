"""A status in the making: starts as the old one, ends as the new one or as "no change"."""

from collections.abc import Iterable
from copy import deepcopy
from datetime import datetime
from typing import Any, Final

from contract.api.states import ConditionType, Phase
from contract.api.times import format_time
from controller.checkpoints.reasons import NORMAL, Problem, Reason, note
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
    "image",
)
"""Fields that a new version starts without."""
PHASE_REASONS: Final = {
    Phase.PENDING: Reason.PENDING,
    Phase.CREATING: Reason.CREATING,
    Phase.READY: Reason.CHECKPOINT_READY,
    Phase.FAILED: Reason.CHECKPOINT_FAILED,
}


class StatusDraft:
    """The status of one checkpoint while it is planned."""

    def __init__(self, checkpoint: Object, now: datetime) -> None:
        self._old: Object = checkpoint.get("status") or {}
        self._new: Object = deepcopy(self._old)
        self._generation = checkpoint["metadata"].get("generation")
        self._now = now
        self._told: list[EventSpec] = []
        self.problem: Problem | None = None

    @property
    def phase(self) -> str:
        """The phase as planned so far; empty before the first pass."""
        return str(self._new.get("phase") or "")

    @property
    def job_name(self) -> str:
        """The Job's name as planned so far."""
        return str(self._new.get("jobName") or "")

    @property
    def checkpoint_id(self) -> str:
        """The artifact id as planned so far."""
        return str(self._new.get("checkpointID") or "")

    @property
    def message(self) -> str:
        """The message as planned so far."""
        return str(self._new.get("message") or "")

    @property
    def attempts(self) -> int:
        """Captures begun for the wanted version of an automatic checkpoint."""
        return int(self._new.get("attempts") or 0)

    @property
    def versions(self) -> tuple[Object, ...]:
        """The artifacts in storage, the newest last."""
        return tuple(self._new.get("versions") or ())

    def put_version(self, entry: Object) -> None:
        """Note an artifact; one of that version that was noted before is replaced, in its place."""
        others = {str(each.get("version")): each for each in self.versions}
        self.set(versions=list((others | {str(entry["version"]): entry}).values()))

    def drop_version(self, version: str) -> None:
        """Forget an artifact."""
        self.set(versions=[each for each in self.versions if each.get("version") != version] or None)

    def tell(self, note: EventSpec) -> None:
        """Record an Event besides those that follow from the status; only where the status changes."""
        self._told.append(note)

    def set(self, **fields: Any) -> None:  # noqa: ANN401 - any JSON value
        """Set *fields*; None and empty text remove one."""
        for name, value in fields.items():
            if value is None or value == "":
                self._new.pop(name, None)
            else:
                self._new[name] = value

    def start_over(self) -> None:
        """Back to Pending, with nothing kept of an earlier attempt but the artifacts that are in storage."""
        if self.phase != Phase.PENDING:
            # Only a retry starts from Pending; anything else is a new wish.
            self.set(attempts=None)
        self.set(phase=Phase.PENDING.value, **dict.fromkeys(OF_ONE_ARTIFACT))
        self._new.pop("conditions", None)

    def fail(self, problem: Problem) -> None:
        """To Failed, for a reason."""
        self.set(phase=Phase.FAILED.value)
        self.problem = problem

    def wait(self, problem: Problem) -> None:
        """Stay in this phase and say what it waits for."""
        self.problem = problem

    def condition(self, kind: ConditionType, *, met: bool, reason: Reason, message: str = "") -> None:
        """State a condition; its transition time moves only when it turns."""
        status = "True" if met else "False"
        before = self.condition_of(kind)
        since = before["lastTransitionTime"] if before and before["status"] == status else format_time(self._now)
        entry: Object = {
            "type": kind.value,
            "status": status,
            "reason": reason.value,
            "message": bounded(message, MAX_MESSAGE),
            "lastTransitionTime": since,
        }
        if self._generation is not None:
            entry["observedGeneration"] = self._generation
        self._put(entry)

    def condition_of(self, kind: ConditionType) -> Object | None:
        """A condition as planned so far."""
        return next((entry for entry in self._conditions() if entry.get("type") == kind), None)

    def old_reason(self, kind: ConditionType) -> str:
        """The reason that a condition had before this pass; empty where it was not there."""
        entries: Iterable[Object] = self._old.get("conditions") or ()
        return next((str(entry.get("reason", "")) for entry in entries if entry.get("type") == kind), "")

    def finish(self) -> tuple[Object | None, tuple[EventSpec, ...]]:
        """The new status, None where it equals the old one; and the Events that tell what changed."""
        self._settle()
        if self._new == self._old:
            return None, ()
        return self._new, (*self._notes(), *self._told)

    def _settle(self) -> None:
        """Derive message and the Ready condition from phase and problem."""
        phase = Phase(self.phase)
        if self.problem is not None:
            self.set(message=bounded(self.problem.message, MAX_MESSAGE))
        elif phase != Phase.FAILED:
            self.set(message=None)
        reason = self.problem.reason if self.problem is not None else PHASE_REASONS[phase]
        if phase != Phase.FAILED or self.problem is not None:
            message = str(self._new.get("message", ""))
            self.condition(ConditionType.READY, met=phase == Phase.READY, reason=reason, message=message)
        if self._generation is not None:
            self._new["observedGeneration"] = self._generation

    def _notes(self) -> Iterable[EventSpec]:
        if self.phase == Phase.READY and self._old.get("phase") != Phase.READY:
            where = self._new.get("location", "storage")
            yield note(Reason.CHECKPOINT_READY, f"checkpoint {self._new.get('checkpointID')} is in {where}")
        if self.phase == Phase.CREATING and self._old.get("phase") != Phase.CREATING:
            yield note(Reason.JOB_CREATED, f"created Job {self.job_name}")
        if self.problem is None:
            return
        turned = self._old.get("phase") != self.phase
        if turned or self.old_reason(ConditionType.READY) != self.problem.reason:
            failed = self.phase == Phase.FAILED and self.problem.reason not in NORMAL
            reason = Reason.CHECKPOINT_FAILED if failed else self.problem.reason
            yield note(reason, bounded(self.problem.message, MAX_MESSAGE))

    def _conditions(self) -> list[Object]:
        found: list[Object] = self._new.setdefault("conditions", [])
        return found

    def _put(self, entry: Object) -> None:
        entries = self._conditions()
        for index, before in enumerate(entries):
            if before.get("type") == entry["type"]:
                entries[index] = entry
                return
        entries.append(entry)
