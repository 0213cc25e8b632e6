"""A capture that failed: what people made waits for them, what the system made is tried again by itself.

Each attempt has a version of its own, because artifacts and Jobs are never overwritten.  How many attempts there were,
and since when the next one is waited for, is read from the status alone, so a restarted controller goes on where the
last one was.
"""

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Final

from contract.api import keys
from contract.api.checkpoint import artifact_version, is_automatic
from contract.api.states import ConditionType, Phase
from contract.api.times import parsed_time
from contract.config.storage import MAX_VERSION, BadIdError
from contract.config.values import Values, duration_seconds
from controller.checkpoints.actions import SetAnnotations
from controller.checkpoints.observed import wanted_job
from controller.checkpoints.plan.status import StatusDraft
from controller.checkpoints.reasons import Problem, Reason
from kube.api import Object

RAISE_VERSION: Final = f"to try again, raise annotation {keys.ANN_ARTIFACT_VERSION} of the DynamoCheckpoint"


def capture_failed(checkpoint: Object, draft: StatusDraft, problem: Problem, values: Values) -> float | None:
    """Failed for good, or Pending until the next attempt; answers the seconds until then."""
    limit, attempts = values.automatic.attempts, max(draft.attempts, 1)
    if not is_automatic(checkpoint):
        draft.fail(Problem(problem.reason, f"{problem.message}; {RAISE_VERSION}"))
        return None
    if attempts >= limit:
        words = f"{problem.message}; this was attempt {attempts} of {limit}; correct that, and {RAISE_VERSION}"
        draft.fail(Problem(problem.reason, words))
        return None
    pause = _pause(attempts, values)
    draft.set(phase=Phase.PENDING.value)
    words = f"attempt {attempts + 1} of {limit} in {in_words(pause)}: {problem.message}"
    draft.wait(Problem(Reason.RETRY_SCHEDULED, words))
    return float(pause)


def waits_for_retry(checkpoint: Object, draft: StatusDraft) -> bool:
    """Whether the next attempt is planned and nobody asked for a new version meanwhile."""
    planned = draft.phase == Phase.PENDING and draft.old_reason(ConditionType.READY) == Reason.RETRY_SCHEDULED
    return planned and draft.job_name == wanted_job(checkpoint)


def retry_when_due(
    checkpoint: Object, draft: StatusDraft, now: datetime, values: Values
) -> tuple[tuple[SetAnnotations, ...], float | None]:
    """Raise the version when the pause is over; the new version is what starts the attempt."""
    draft.wait(Problem(Reason.RETRY_SCHEDULED, draft.message))
    left = (_failed_at(draft, now) - now).total_seconds() + _pause(draft.attempts, values)
    if left > 0:
        return (), left
    return raise_version(checkpoint, draft), None


def raise_version(checkpoint: Object, draft: StatusDraft) -> tuple[SetAnnotations, ...]:
    """Ask for a version that never was: what starts a capture."""
    version = next_version(checkpoint, {str(each.get("version")) for each in draft.versions})
    return (SetAnnotations({keys.ANN_ARTIFACT_VERSION: version}),)


def next_version(checkpoint: Object, taken: Collection[str]) -> str:
    """The version after the wanted one that is not taken: 2 after 1, b-2 after b."""
    try:
        current = artifact_version(checkpoint)
    except BadIdError:
        current = keys.DEFAULT_ARTIFACT_VERSION
    stem, _, count = current.rpartition("-") if not current.isdecimal() else ("", "", current)
    number = int(count) if count.isdecimal() else 1
    stem = stem if count.isdecimal() else current
    while True:
        number += 1
        found = f"{stem[: MAX_VERSION - len(str(number)) - 1]}-{number}" if stem else str(number)
        if found not in taken:
            return found


def in_words(seconds: int) -> str:
    """A duration as Go writes it: 1m0s."""
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return (f"{hours}h" if hours else "") + (f"{minutes}m" if hours or minutes else "") + f"{rest}s"


def _pause(attempts: int, values: Values) -> int:
    pauses = values.automatic.backoff
    return duration_seconds(pauses[min(max(attempts, 1), len(pauses)) - 1])


def _failed_at(draft: StatusDraft, now: datetime) -> datetime:
    entries = (draft.condition_of(kind) for kind in (ConditionType.JOB_COMPLETED, ConditionType.JOB_CREATED))
    times = [parsed_time(each.get("lastTransitionTime")) for each in entries if each and each["status"] == "False"]
    # A time of the future (a clock that was set back) must not hold the attempt for ever.
    return min(max((each for each in times if each is not None), default=now - timedelta(days=1)), now)
