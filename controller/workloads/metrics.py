"""Figures about pods for Prometheus: how their restores ended, and which are held.

Restores are what the agents' reports say; the success ratio and its alert are made of ``snapshot_restores_total``.
A series that begins above zero shows no increase to Prometheus, and each process has series of its own: what happens
before its first scrape is counted after it.
"""

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from contract.api.reports import UNKNOWN_REASON, Report, ReportPhase
from contract.api.states import AgentReason, GateEnd
from controller.workloads import pods
from kube.api import Object

RESTORED: Final = "restored"
FAILED: Final = "failed"
_CAPTURE_ONLY: Final = (
    ReportPhase.GPU_LOCK,
    ReportPhase.GPU_SAVE,
    ReportPhase.GPU_CHECKPOINT,
    ReportPhase.FREEZE,
    ReportPhase.DUMP,
    ReportPhase.THAW,
    ReportPhase.WEIGHTS,
    ReportPhase.SEAL,
    ReportPhase.PUBLISH,
    ReportPhase.PROOF,
)
PHASES: Final = tuple(phase for phase in ReportPhase if phase not in _CAPTURE_ONLY)
MAX_UNSEEN: Final = 10_000
"""Restores that wait for a first scrape; without a scrape the exact moment is not missed."""
_STEP: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
"""Seconds: from a small worker's 0.3 s to a large one's minutes from a slow store; 5 s is what interactive services
ask of the 90th percentile."""


class Metrics:
    """What is counted as it happens."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._restores = Counter(
            "snapshot_restores", "Restores that ended, by outcome and reason.", ["outcome", "reason"], registry=registry
        )
        self._steps = Histogram(
            "snapshot_restore_phase_seconds",
            "Seconds of each step of a successful restore.",
            ["phase"],
            buckets=_STEP,
            registry=registry,
        )
        self._bytes = Counter("snapshot_restore_bytes", "Bytes of the artifacts restored.", registry=registry)
        self._lifted = Counter(
            "snapshot_gates_lifted", "Pods let go after they were held, by reason.", ["end"], registry=registry
        )
        self._unseen: list[Report] | None = []
        """Restores that wait for the first scrape; None since then."""
        self._show_all()
        # Registered last, so it is asked when everything above has given its figures.
        registry.register(_Scraped(self._scraped))

    def _show_all(self) -> None:
        """Make every series at the start: an increase from nothing is seen only if the series was there."""
        self._restores.labels(RESTORED, "")
        for reason in (*AgentReason, UNKNOWN_REASON):
            self._restores.labels(FAILED, reason)
        for phase in PHASES:
            self._steps.labels(phase)
        for end in GateEnd:
            self._lifted.labels(end)

    def restored(self, report: Report) -> None:
        """Count one restore, well ended or not."""
        if self._unseen is None or len(self._unseen) >= MAX_UNSEEN:
            self._count(report)
        else:
            self._unseen.append(report)

    def _scraped(self) -> None:
        unseen, self._unseen = self._unseen or (), None
        for report in unseen:
            self._count(report)

    def _count(self, report: Report) -> None:
        self._restores.labels(RESTORED if report.ok else FAILED, report.reason).inc()
        if not report.ok:
            return
        self._bytes.inc(report.size)
        for phase, seconds in report.seconds.items():
            self._steps.labels(phase if phase in PHASES else ReportPhase.OTHER).observe(seconds)

    def lifted(self, end: GateEnd) -> None:
        """Count one pod that was let go."""
        self._lifted.labels(end).inc()


class _Scraped(Collector):
    """No figures: it notes that they were asked for."""

    def __init__(self, tell: Callable[[], None]) -> None:
        self._tell = tell

    def collect(self) -> Iterable[Metric]:
        self._tell()
        return ()


class HeldCollector(Collector):
    """Pods that are held, counted when asked."""

    def __init__(self, copy: Iterable[Object], now: Callable[[], datetime], wait_seconds: float) -> None:
        self._copy = copy
        self._now = now
        self._wait_seconds = wait_seconds

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Three gauges: how many, for how long the first of them, and how long they may."""
        since = [pods.created(pod) for pod in self._copy if pods.held(pod)]
        oldest = max(0.0, (self._now() - min(since)).total_seconds()) if since else 0.0
        yield GaugeMetricFamily("snapshot_gates_held", "Pods held until their checkpoint is Ready.", value=len(since))
        yield GaugeMetricFamily("snapshot_gates_oldest_seconds", "How long the oldest of them exists.", value=oldest)
        yield GaugeMetricFamily(
            "snapshot_gates_wait_timeout_seconds", "The chart value waitTimeout.", value=self._wait_seconds
        )
