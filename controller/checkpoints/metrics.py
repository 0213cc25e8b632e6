"""Figures of the controller for Prometheus.

Captures are counted when their Jobs end under our eyes and while we lead: a new leader, which knows all Jobs already,
counts none of them again.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from contract.api import keys
from contract.api.checkpoint import annotations_of, is_given_up, labels_of
from contract.api.conditions import condition, is_true
from contract.api.reports import UNKNOWN_REASON, Report, ReportPhase, read_report
from contract.api.states import AgentReason, CaptureStatus, CheckpointReason, Phase
from contract.api.times import parsed_time
from kube.api import Object
from kube.informer import Informer
from kube.store import Change

CAPTURED: Final = "captured"
FAILED: Final = "failed"
JOB_FAILED: Final = "job-failed"
"""CheckpointReason of a capture whose Job failed without a word from an agent."""
DEADLINE: Final = "deadline-exceeded"
REASONS: Final = (*AgentReason, UNKNOWN_REASON, JOB_FAILED, DEADLINE)
CAPTURE_PHASES: Final = (
    *("inspect", "gpu-lock", "gpu-checkpoint", "dump", "files", "publish", "verify", "proof"),
    *("other", "total"),
)
_PASS: Final = (0.005, 0.02, 0.1, 0.5, 2, 10)
_STEP: Final = (0.01, 0.05, 0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 900)
_WHOLE: Final = (5, 15, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200)


class Metrics:
    """What is counted while the controller works."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._passes = Histogram(
            "snapshot_controller_pass_seconds",
            "Time of one pass over one checkpoint.",
            buckets=_PASS,
            registry=registry,
        )
        self._failed = Counter(
            "snapshot_controller_pass_failures", "Passes that ended in an error and are repeated.", registry=registry
        )
        self._events = Counter(
            "snapshot_controller_events", "Events recorded about checkpoints.", ["reason"], registry=registry
        )
        for reason in CheckpointReason:
            self._events.labels(reason)

    @contextmanager
    def measured(self) -> Iterator[None]:
        """Time one pass, and count it if it fails."""
        with self._passes.time(), self._failed.count_exceptions():
            yield

    def count_event(self, reason: str) -> None:
        """Count an Event; reasons are a closed list."""
        self._events.labels(reason).inc()


class CaptureMetrics:
    """How captures end: outcomes by reason, seconds, bytes."""

    def __init__(
        self, registry: CollectorRegistry, clock: Callable[[], datetime], counting: Callable[[], bool]
    ) -> None:
        self._clock = clock
        self._counting = counting
        self._ended = Counter(
            "snapshot_captures", "Captures that ended, by outcome and reason.", ["outcome", "reason"], registry=registry
        )
        self._whole = Histogram(
            "snapshot_capture_job_seconds",
            "From the capture Job's creation to its end: scheduling, image, start of the worker, capture.",
            ["outcome"],
            buckets=_WHOLE,
            registry=registry,
        )
        self._steps = Histogram(
            "snapshot_capture_phase_seconds",
            "Seconds of each step of a successful capture.",
            ["phase"],
            buckets=_STEP,
            registry=registry,
        )
        self._bytes = Counter("snapshot_capture_bytes", "Bytes of the artifacts captured.", registry=registry)
        self._show_all()

    def _show_all(self) -> None:
        """Make every series at the start: an increase from nothing is seen only if the series was there."""
        for outcome in (CAPTURED, FAILED):
            self._whole.labels(outcome)
            for reason in ("",) if outcome == CAPTURED else REASONS:
                self._ended.labels(outcome, reason)
        for phase in CAPTURE_PHASES:
            self._steps.labels(phase)

    def follow(self, jobs: Informer) -> None:
        """Count what *jobs* reports from now on; before ``jobs.run``."""
        jobs.add_handler(lambda change: self._see(change, known=jobs.synced.is_set()))

    def _see(self, change: Change, *, known: bool) -> None:
        job = change.new
        fresh = _ending(change.old) is None if change.old is not None else known
        ending = _ending(job) if job is not None and fresh and self._counting() else None
        if job is None or ending is None:
            return
        outcome, reason = ending
        self._ended.labels(outcome, reason).inc()
        created = parsed_time(job["metadata"].get("creationTimestamp"))
        if created is not None:
            self._whole.labels(outcome).observe(max(0.0, (self._clock() - created).total_seconds()))
        report = _report(job)
        if outcome == CAPTURED and report is not None:
            self._bytes.inc(report.size)
            for phase, seconds in report.seconds.items():
                self._steps.labels(phase if phase in CAPTURE_PHASES else ReportPhase.OTHER).observe(seconds)


def _ending(job: Object | None) -> tuple[str, str] | None:
    """Outcome and reason of a capture Job that ended; None for one that did not, and for other Jobs."""
    if job is None or not annotations_of(job).get(keys.ANN_CHECKPOINT) or not _captures(job):
        return None
    verdict = annotations_of(job).get(keys.ANN_CHECKPOINT_STATUS)
    report = _report(job)
    if verdict == CaptureStatus.FAILED:
        return FAILED, (report.reason if report is not None else "") or UNKNOWN_REASON
    failed = condition(job, "Failed") or {}
    if failed.get("status") == "True":
        return FAILED, DEADLINE if failed.get("reason") == "DeadlineExceeded" else JOB_FAILED
    if verdict == CaptureStatus.COMPLETED and is_true(job, "Complete"):
        return CAPTURED, ""
    return None


def _captures(job: Object) -> bool:
    """Not so the Jobs that clean up or look into the store."""
    template = (job.get("spec") or {}).get("template") or {}
    return labels_of(template).get(keys.LABEL_IS_SOURCE) == "true"


def _report(job: Object) -> Report | None:
    return read_report(annotations_of(job).get(keys.ANN_CAPTURE_REPORT, ""))


class PhaseCollector(Collector):
    """Checkpoints by phase, counted when asked: no bookkeeping that could drift."""

    def __init__(self, checkpoints: Iterable[Object], clock: Callable[[], datetime]) -> None:
        self._checkpoints = checkpoints
        self._clock = clock

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Two gauges, labelled by phase."""
        counts = dict.fromkeys(Phase, 0)
        oldest: dict[Phase, str] = {}
        for checkpoint in self._checkpoints:
            if is_given_up(checkpoint):
                # No worker starts cold for it, so no alert is due; a pod that names it restarts the capture.
                continue
            phase = _phase(checkpoint)
            counts[phase] += 1
            moved = _moved(checkpoint)
            oldest[phase] = min(oldest.get(phase, moved), moved)
        now = self._clock()
        yield _by_phase("snapshot_checkpoints", "DynamoCheckpoints by phase; none that was given up.", counts)
        yield _by_phase(
            "snapshot_checkpoints_unmoved_seconds",
            "The longest time since a checkpoint of this phase was made or a condition of it changed.",
            {phase: _since(oldest.get(phase, ""), now) for phase in Phase},
        )


def _phase(checkpoint: Object) -> Phase:
    phase = (checkpoint.get("status") or {}).get("phase")
    return Phase(phase) if phase in set(Phase) else Phase.PENDING


def _moved(checkpoint: Object) -> str:
    """Say when it last moved, as the API writes it: such times sort as text, and thousands are compared."""
    conditions = (checkpoint.get("status") or {}).get("conditions") or ()
    return max(
        str(checkpoint["metadata"].get("creationTimestamp") or ""),
        *(str(entry.get("lastTransitionTime") or "") for entry in conditions),
        "",
    )


def _since(moved: str, now: datetime) -> float:
    moment = parsed_time(moved)
    return 0.0 if moment is None else max(0.0, (now - moment).total_seconds())


def _by_phase(name: str, words: str, values: Mapping[Phase, float]) -> GaugeMetricFamily:
    gauge = GaugeMetricFamily(name, words, labels=["phase"])
    for phase, value in values.items():
        gauge.add_metric([phase.value], value)
    return gauge


def leader_gauge(registry: CollectorRegistry, leading: Callable[[], bool]) -> None:
    """Say whether this process leads."""
    gauge = Gauge("snapshot_controller_leader", "1 in the process that leads, 0 in the others.", registry=registry)
    gauge.set_function(lambda: float(leading()))
