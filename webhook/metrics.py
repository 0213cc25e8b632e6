"""What the webhook counts; every label comes from a closed set."""

from __future__ import annotations

from typing import Final
from weakref import WeakSet

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from webhook.http_fast_path import FastPath
from webhook.review import LABELS

REFUSALS: Final = ("bad-request", "too-large", "too-slow", "error")
_BUCKETS: Final = (0.00005, 0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.05, 0.1, 0.5, 1)
"""Seconds; a decision takes a fraction of a millisecond, the API server waits two seconds."""


class Metrics:
    """Counters of one webhook process."""

    def __init__(self, registry: CollectorRegistry) -> None:
        decisions = Counter("snapshot_admission_decisions", "Admission answers by code", ["code"], registry=registry)
        refused = Counter(
            "snapshot_admission_refusals", "Requests without an answer, by reason", ["reason"], registry=registry
        )
        # Made at once: every series is there from the first scrape, and a request looks up no label.
        self.decisions: Final = {label: decisions.labels(label) for label in LABELS}
        self.refusals: Final = {reason: refused.labels(reason) for reason in REFUSALS}
        self.seconds: Final = Histogram(
            "snapshot_admission_decision_seconds",
            "Time from the whole body to the whole answer",
            buckets=_BUCKETS,
            registry=registry,
        )
        self.lanes: Final[WeakSet[FastPath]] = WeakSet()
        """All connections; counted when asked, so that a request pays nothing for it."""
        self.general = 0
        """Requests that the general server is answering."""
        connections = Gauge("snapshot_admission_connections", "Open connections.", registry=registry)
        connections.set_function(lambda: sum(lane.open for lane in self.lanes))
        waiting = Gauge(
            "snapshot_admission_in_flight", "Requests that began to arrive and are not answered.", registry=registry
        )
        waiting.set_function(lambda: self.general + sum(lane.busy for lane in self.lanes))
