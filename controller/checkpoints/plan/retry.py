"""A capture that failed: a manual checkpoint waits for its owner, an automatic one is tried again by itself.

Each attempt has a version of its own, because artifacts and Jobs are never overwritten. How many attempts there were,
and since when the next one is waited for, is read from the status alone, so a restarted controller goes on where the
last one was.
"""

from datetime import datetime, timedelta
from typing import Final

from contract.api import keys
from contract.api.checkpoint import is_automatic, next_version
from contract.api.states import CheckpointReason, ConditionType, Phase
from contract.api.times import parsed_time
from contract.config.values import Values, duration_seconds
from controller.checkpoints.actions import SetAnnotations
from controller.checkpoints.observed import Pass, wanted_job
from controller.checkpoints.plan.status import Status, Step
from controller.checkpoints.reasons import Problem
from kube.api import Object

RAISE_VERSION: Final = f"to try again, raise annotation {keys.ANN_ARTIFACT_VERSION} of the DynamoCheckpoint"


def capture_failed(current: Pass, status: Status, problem: Problem, *, lasting: bool = False) -> Step:
    """Failed for good, or Pending until the next attempt; what lasts is not tried again."""
    limit, attempts = current.values.automatic.attempts, max(status.attempts, 1)
    if not is_automatic(current.checkpoint):
        return Step(status.failed(Problem(problem.reason, f"{problem.message}; {RAISE_VERSION}")))
    if lasting:
        words = f"{problem.message}; another start would end the same way; correct that, and {RAISE_VERSION}"
        return Step(status.failed(Problem(problem.reason, words)))
    if attempts >= limit:
        words = f"{problem.message}; this was attempt {attempts} of {limit}; correct that, and {RAISE_VERSION}"
        return Step(status.failed(Problem(problem.reason, words)))
    pause = _pause(attempts, current.values)
    words = f"attempt {attempts + 1} of {limit} in {in_words(pause)}: {problem.message}"
    pending = status.with_fields(phase=Phase.PENDING.value)
    return Step(pending.waiting(Problem(CheckpointReason.RETRY_SCHEDULED, words)), requeue=float(pause))


def waits_for_retry(checkpoint: Object, status: Status) -> bool:
    """Say whether the next attempt is planned and no new version was asked for meanwhile."""
    planned = (
        status.phase == Phase.PENDING and status.reason_before(ConditionType.READY) == CheckpointReason.RETRY_SCHEDULED
    )
    return planned and status.job_name == wanted_job(checkpoint)


def retry_when_due(current: Pass, status: Status) -> Step:
    """Raise the version when the pause is over; the new version is what starts the attempt."""
    status = status.waiting(Problem(CheckpointReason.RETRY_SCHEDULED, status.message))
    passed = current.now - _failed_at(status, current.now)
    left = _pause(status.attempts, current.values) - passed.total_seconds()
    return Step(status, requeue=left) if left > 0 else raise_version(current.checkpoint, status)


def raise_version(checkpoint: Object, status: Status) -> Step:
    """Ask for a version that never was: what starts a capture."""
    version = next_version(checkpoint, {str(each.get("version")) for each in status.versions})
    return Step(status, (SetAnnotations({keys.ANN_ARTIFACT_VERSION: version}),))


def in_words(seconds: int) -> str:
    """Return a duration as Go writes it: 1m0s."""
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return (f"{hours}h" if hours else "") + (f"{minutes}m" if hours or minutes else "") + f"{rest}s"


def _pause(attempts: int, values: Values) -> int:
    pauses = values.automatic.backoff
    return duration_seconds(pauses[min(max(attempts, 1), len(pauses)) - 1])


def _failed_at(status: Status, now: datetime) -> datetime:
    entries = (status.condition(kind) for kind in (ConditionType.JOB_COMPLETED, ConditionType.JOB_CREATED))
    times = [parsed_time(each.get("lastTransitionTime")) for each in entries if each and each["status"] == "False"]
    # A time of the future (a clock that was set back) must not hold the attempt for ever.
    return min(max((each for each in times if each is not None), default=now - timedelta(days=1)), now)
