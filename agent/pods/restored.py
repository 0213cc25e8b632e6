"""What a restore makes of its pod for those who select or wait: a label, and a condition.

Both follow from the annotations of each container. The agent reads neither, so a client that writes them wins nothing.
"""

from datetime import datetime
from typing import Final

from agent.executor.api import ExecutionResult
from agent.pods import selection
from contract.api import keys
from contract.api.checkpoint import annotations_of
from contract.api.conditions import condition
from contract.api.states import RestoreStatus
from contract.api.times import format_time
from kube.api import Object
from kube.errors import bounded

RESTORED: Final = "Restored"
RESTORING: Final = "Restoring"
PARKED: Final = "Parked"
MAX_MESSAGE: Final = 1024
_LABELS: Final = {"True": keys.OUTCOME_RESTORED, "False": keys.OUTCOME_COLD}
"""Of a condition's status; of one that is Unknown, by its reason."""


def outcome_patch(
    pod: Object, container: str, status: RestoreStatus, outcome: ExecutionResult, now: datetime
) -> Object:
    """Return the strategic merge patch of label and condition; empty if what they say stays.

    Args:
        pod: as it is, before *status* is written.
        container: one of its targets, whose restore has come to *status*.
        status: how far it is.
        outcome: how it ended; its reason is one of the closed list.
        now: when this is written.
    """
    said = _judged(pod, container, status, outcome)
    if said is None:
        return {}
    word, reason, message = said
    before = condition(pod, keys.CONDITION_RESTORED) or {}
    since = before.get("lastTransitionTime") if before.get("status") == word else None
    entry = {
        "type": keys.CONDITION_RESTORED,
        "status": word,
        "reason": reason,
        "message": bounded(message, MAX_MESSAGE),
        "lastTransitionTime": since or format_time(now),
    }
    labels = {keys.LABEL_OUTCOME: keys.OUTCOME_PARKED if reason == PARKED else _LABELS.get(word)}
    return {"metadata": {"labels": labels}, "status": {"conditions": [entry]}}


def _judged(
    pod: Object, container: str, status: RestoreStatus, outcome: ExecutionResult
) -> tuple[str, str, str] | None:
    """Return status, reason and message of the condition; None if it stays as it is."""
    targets = selection.targets(pod)
    names = targets if isinstance(targets, tuple) else (container,)
    notes = {**annotations_of(pod), keys.ANN_RESTORE_STATUS_PREFIX + container: status.value}
    words = {notes.get(keys.ANN_RESTORE_STATUS_PREFIX + name) for name in names}
    if status == RestoreStatus.FAILED:
        return "False", outcome.reason, f"container {container} is not restored: {outcome.message}"
    if RestoreStatus.FAILED in words:
        return None  # it says already why another container of the pod is not
    if status == RestoreStatus.IN_PROGRESS:
        return "Unknown", RESTORING, f"container {container} is being restored"
    if status == RestoreStatus.PARKED:
        return "Unknown", PARKED, f"container {container} is restored and stopped until the pod is woken"
    return ("True", RESTORED, f"restored: {', '.join(names)}") if words == {RestoreStatus.COMPLETED} else None
