"""New restore reports on pods, each handed on once: metrics count them.

What a pod carries already when the cache is first filled was reported to a predecessor of this process, so it does not
count again; nor does a relist later on, because each change carries what was known before it. What was written while
no controller led was reported to none: the next leader knows it by its time, later than the last word of the leader
before. Clocks of two machines are compared for that, so it is as exact as they are.
"""

import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final

from contract.api import keys
from contract.api.checkpoint import annotations_of
from contract.api.reports import Report, read_report
from kube.api import Object
from kube.informer import Informer
from kube.store import Change, key_of

MAX_TEXT = 8192
"""Characters of an annotation that is worth parsing; the agent's have some hundred."""
AHEAD: Final = timedelta(seconds=30)
"""How far a node's clock may be before ours; a time far in the future would be later than every leader's last word."""

Listener = Callable[[Report], None]
logger = logging.getLogger(__name__)


def _now() -> datetime:
    return datetime.now(UTC)


class Reports:
    """Hands each new report to each listener."""

    def __init__(
        self, led_until: Callable[[], datetime | None] = lambda: None, now: Callable[[], datetime] = _now
    ) -> None:
        self._led_until = led_until
        self._now = now
        self._listeners: list[Listener] = []
        self._followed: list[Informer] = []
        self._counting = False

    def listen(self, listener: Listener) -> None:
        """Have *listener* called with each report from now on; it must not block."""
        self._listeners.append(listener)

    def follow(self, informer: Informer) -> None:
        """Take the reports from a copy of pods; call before it runs."""
        self._followed.append(informer)
        informer.add_handler(lambda change: self._see(change) if informer.synced.is_set() else None)

    def count(self, *, on: bool) -> None:
        """Only the leader counts: the sum over replicas would count each restore more than once.

        Call it when all copies are filled: what was reported while no controller led is counted first.
        """
        if on and not self._counting:
            self._catch_up()
        self._counting = on

    def _catch_up(self) -> None:
        since, latest = self._led_until(), self._now() + AHEAD
        if since is None:
            return
        for pod in (pod for informer in self._followed for pod in informer.store):
            report = _read(pod) if _said(pod)[0] else None
            if report is not None and report.at is not None and since < report.at <= latest:
                self._tell(report)

    def _see(self, change: Change) -> None:
        if not self._counting or change.new is None or not is_new(change.old, change.new):
            return
        report = _read(change.new)
        if report is None:
            logger.warning("unreadable restore report", extra={"pod": key_of(change.new)})
            return
        self._tell(report)

    def _tell(self, report: Report) -> None:
        for listener in self._listeners:
            listener(report)


def _read(pod: Object) -> Report | None:
    text = annotations_of(pod)[keys.ANN_RESTORE_REPORT]
    return read_report(text) if len(text) <= MAX_TEXT else None


def is_new(old: Object | None, new: Object) -> bool:
    """Say whether *new* carries a report that *old* did not."""
    said = _said(new)
    return bool(said[0]) and (old is None or _said(old) != said)


def _said(pod: Object) -> tuple[str, str, tuple[str, ...]]:
    """Return what distinguishes reports: a container that restarted may be restored with the very same figures."""
    notes = annotations_of(pod)
    prefix = keys.ANN_RESTORE_CONTAINER_ID_PREFIX
    containers = tuple(sorted(f"{key}={value}" for key, value in notes.items() if key.startswith(prefix)))
    return notes.get(keys.ANN_RESTORE_REPORT, ""), str(pod["metadata"].get("uid", "")), containers
