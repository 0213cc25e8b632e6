"""Whether the restores of a checkpoint fail one like the other, so that new pods had better start cold at once.

It is worked out each time from the reports on the pods that are there and from the condition itself, so nothing is lost
with a controller. The condition is True for a pause; reports from before its end count no more.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from contract.api import keys
from contract.api.checkpoint import annotations_of, captured_version, id_of, labels_of
from contract.api.conditions import condition
from contract.api.reports import UNKNOWN_REASON, Report, read_report
from contract.api.states import NOT_OF_THE_CHECKPOINT, CheckpointReason, ConditionType, Phase
from contract.api.times import format_time, parsed_time
from contract.config.storage import BadIdError
from controller.workloads.reports import AHEAD, MAX_TEXT
from kube.api import Object

FAILED_WORD: Final = '"failed"'
"""In each report of a failure: asked before thousands of reports are parsed."""
RESUMED: Final = "the pause is over: new pods are restored again"


@dataclass(frozen=True)
class Verdict:
    """What condition RestoresFailing is to say from now on."""

    failing: bool
    reason: CheckpointReason
    message: str


@dataclass(frozen=True)
class Run:
    """Failures alike, the newest of all restores."""

    reason: str
    length: int
    pod: str
    """Of the newest."""


def judge(
    checkpoint: Object, users: Iterable[Object], now: datetime, in_a_row: int, pause: float
) -> tuple[Verdict | None, float | None]:
    """Return what the condition should become, None if it is right; and in how many seconds it may have to change.

    Args:
        checkpoint: as it is.
        users: pods that name it.
        now: the time.
        in_a_row: failures alike that are too many; 0: none are.
        pause: seconds for which new pods then start cold.
    """
    if (checkpoint.get("status") or {}).get("phase") != Phase.READY or checkpoint["metadata"].get("deletionTimestamp"):
        return None, None
    before = condition(checkpoint, ConditionType.RESTORES_FAILING) or {}
    since = parsed_time(before.get("lastTransitionTime"))
    if before.get("status") == "True":
        left = pause - (now - since).total_seconds() if since is not None and in_a_row else 0.0
        if left > 0:
            # A clock that was set back must not make it last longer than a pause.
            return None, min(left, pause)
        return Verdict(failing=False, reason=CheckpointReason.RESTORES_RESUMED, message=RESUMED), None
    run = newest_run(_reports(checkpoint, users, since, now + AHEAD)) if in_a_row else None
    if run is None or run.length < in_a_row:
        return None, None
    until = format_time(now + timedelta(seconds=pause))
    words = (
        f"{run.length} restores in a row failed as {run.reason}, the last one in pod {run.pod}; new pods start cold "
        f"until {until}, then restores are tried again; to end it now, correct the cause and capture again with a new "
        f"value of annotation {keys.ANN_ARTIFACT_VERSION}"
    )
    return Verdict(failing=True, reason=CheckpointReason.RESTORES_FAILING, message=words), pause


def newest_run(reports: Iterable[tuple[str, Report]]) -> Run | None:
    """Return the failures for one reason after which nothing else is reported; None if the newest restore succeeded.

    Args:
        reports: name of the pod and its report, in any order; failures that are not the checkpoint's do not count.
    """
    ordered = sorted(((pod, each) for pod, each in reports if _counts(each)), key=_time, reverse=True)
    if not ordered or ordered[0][1].ok:
        return None
    reason = ordered[0][1].reason
    return Run(reason, _length(ordered, reason), ordered[0][0])


def _length(ordered: Sequence[tuple[str, Report]], reason: str) -> int:
    return next((n for n, (_, each) in enumerate(ordered) if each.ok or each.reason != reason), len(ordered))


def _time(entry: tuple[str, Report]) -> tuple[float, str]:
    return (entry[1].at.timestamp() if entry[1].at is not None else 0.0), entry[0]


def _counts(report: Report) -> bool:
    return report.at is not None and report.reason not in {*NOT_OF_THE_CHECKPOINT, UNKNOWN_REASON}


def _reports(
    checkpoint: Object, users: Iterable[Object], since: datetime | None, latest: datetime
) -> Iterable[tuple[str, Report]]:
    """Return the reports about the newest version, from *since* to *latest*, if one of them is of a failure."""
    try:
        artifact = id_of(checkpoint), captured_version(checkpoint, id_of(checkpoint))
    except BadIdError:
        return ()
    mine = [(pod["metadata"]["name"], _text(pod)) for pod in users if _artifact(pod) == artifact]
    if not any(FAILED_WORD in text for _, text in mine):
        return ()
    read = ((name, read_report(text)) for name, text in mine if text)
    return [
        (name, report)
        for name, report in read
        if report is not None and report.at is not None and report.at <= latest and (since is None or report.at > since)
    ]


def _artifact(pod: Object) -> tuple[str, str]:
    return labels_of(pod).get(keys.LABEL_CHECKPOINT_ID, ""), annotations_of(pod).get(keys.ANN_ARTIFACT_VERSION, "")


def _text(pod: Object) -> str:
    text = annotations_of(pod).get(keys.ANN_RESTORE_REPORT, "")
    return text if len(text) <= MAX_TEXT else ""
