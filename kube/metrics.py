"""Figures that every process with informers and queues has; each is read when asked, nothing is kept up to date."""

from collections.abc import Iterator, Mapping
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from kube.informer import Informer
from kube.queue import WorkQueue
from kube.recorder import Recorder


class InformerCollector(Collector):
    """How fresh each informer cache is."""

    def __init__(self, informers: Mapping[str, Informer]) -> None:
        self._informers = informers

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield three gauges, labelled by the informer's name."""
        synced = _gauge("snapshot_informer_synced", "1 once the first list is in.", "copy")
        objects = _gauge("snapshot_informer_objects", "Objects in the copy.", "copy")
        age = _gauge(
            "snapshot_informer_age_seconds",
            "Seconds since the API server last said anything about the collection; it does so about once a minute.",
            "copy",
        )
        for name, informer in self._informers.items():
            synced.add_metric([name], float(informer.synced.is_set()))
            objects.add_metric([name], len(informer.store))
            age.add_metric([name], informer.age())
        yield from (synced, objects, age)


class QueueCollector(Collector):
    """How far each queue is behind."""

    def __init__(self, queues: Mapping[str, WorkQueue[Any]]) -> None:
        self._queues = queues

    def collect(self) -> Iterator[GaugeMetricFamily | CounterMetricFamily]:
        """Yield two gauges and a counter, labelled by the queue's name."""
        depth = _gauge("snapshot_queue_depth", "Keys that wait for their turn.", "queue")
        oldest = _gauge("snapshot_queue_oldest_seconds", "How long the first of them has waited.", "queue")
        retries = CounterMetricFamily(
            "snapshot_queue_retries", "Keys that failed and came back later.", labels=["queue"]
        )
        for name, queue in self._queues.items():
            depth.add_metric([name], queue.depth)
            oldest.add_metric([name], queue.oldest_seconds())
            retries.add_metric([name], queue.retries)
        yield from (depth, oldest, retries)


class RecorderCollector(Collector):
    """Whether Events get through."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    def collect(self) -> Iterator[GaugeMetricFamily | CounterMetricFamily]:
        """Yield a gauge and a counter."""
        yield GaugeMetricFamily("snapshot_events_waiting", "Events that wait to be sent.", self._recorder.waiting)
        yield CounterMetricFamily(
            "snapshot_events_dropped", "Events given up: too many waited.", self._recorder.dropped
        )


def _gauge(name: str, words: str, label: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, words, labels=[label])
