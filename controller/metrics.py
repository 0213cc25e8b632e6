"""Figures of the controller for Prometheus."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily

from contract.states import Phase
from kube.seam import Object


class Metrics:
    """What is counted while the controller works."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._passes = Histogram(
            "snapshot_controller_pass_seconds",
            "Time of one pass over one checkpoint.",
            buckets=(0.005, 0.02, 0.1, 0.5, 2, 10),
            registry=registry,
        )
        self._failed = Counter(
            "snapshot_controller_pass_failures", "Passes that ended in an error and are repeated.", registry=registry
        )
        self._told = Counter(
            "snapshot_controller_events", "Events recorded about checkpoints.", ["reason"], registry=registry
        )

    @contextmanager
    def measured(self) -> Iterator[None]:
        """Time one pass, and count it where it fails."""
        with self._passes.time(), self._failed.count_exceptions():
            yield

    def told(self, reason: str) -> None:
        """Count an Event; reasons are a closed list."""
        self._told.labels(reason).inc()


class PhaseCollector:
    """Checkpoints by phase, counted when asked: no bookkeeping that could drift."""

    def __init__(self, checkpoints: Iterable[Object]) -> None:
        self._checkpoints = checkpoints

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """One gauge, labelled by phase."""
        counts = dict.fromkeys((phase.value for phase in Phase), 0)
        for checkpoint in self._checkpoints:
            phase = (checkpoint.get("status") or {}).get("phase") or Phase.PENDING.value
            counts[phase] = counts.get(phase, 0) + 1
        gauge = GaugeMetricFamily("snapshot_checkpoints", "DynamoCheckpoints by phase.", labels=["phase"])
        for phase, count in counts.items():
            gauge.add_metric([phase], count)
        yield gauge
