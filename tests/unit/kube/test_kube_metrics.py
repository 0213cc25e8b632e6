"""Informer caches and queues report how fresh and how far behind they are."""

import asyncio

import pytest
from prometheus_client import CollectorRegistry

from kube import informer as informer_room
from kube import queue as queue_room
from kube import recorder as recorder_room
from kube.errors import ServerUnavailableError
from kube.informer import Informer
from kube.metrics import InformerCollector, QueueCollector, RecorderCollector
from kube.queue import WorkQueue
from kube.recorder import Recorder
from kube.resources import JOBS
from tests.support.fake_kube import ScriptedWatches, obj
from tests.support.virtual_time import run


class Clock:
    """A monotonic clock that the test moves."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    made = Clock()
    monkeypatch.setattr(informer_room, "monotonic", made)
    monkeypatch.setattr(queue_room, "monotonic", made)
    return made


def value(collector, name, **labels):
    registry = CollectorRegistry()
    registry.register(collector)
    return registry.get_sample_value(name, labels)


def test_the_age_of_a_copy_counts_from_the_servers_last_word(clock):
    async def scenario():
        kube = ScriptedWatches([([obj("a", 1), obj("b", 2)], 10)], [[("BOOKMARK", obj("x", 12))]])
        copy = Informer(kube, JOBS)
        task = asyncio.create_task(copy.run())
        await asyncio.sleep(0.01)
        clock.now += 90
        collector = InformerCollector({"jobs": copy})
        figures = [
            value(collector, f"snapshot_informer_{name}", copy="jobs") for name in ("synced", "objects", "age_seconds")
        ]
        task.cancel()
        await asyncio.wait([task])
        return figures

    assert [1, 2, 90] == run(scenario())


def test_a_copy_that_never_listed_ages_from_its_start(clock):
    async def scenario():
        copy = Informer(ScriptedWatches([ServerUnavailableError("down")] * 50, []), JOBS)
        before = copy.age()
        task = asyncio.create_task(copy.run())
        await asyncio.sleep(0.01)
        clock.now += 30
        collector = InformerCollector({"jobs": copy})
        figures = [value(collector, f"snapshot_informer_{name}", copy="jobs") for name in ("synced", "age_seconds")]
        task.cancel()
        await asyncio.wait([task])
        return before, figures

    assert (0.0, [0, 30]) == run(scenario())


def test_a_queue_tells_its_depth_its_oldest_key_and_its_retries(clock):
    async def broken(_):
        raise ServerUnavailableError("down")

    async def scenario():
        queue = WorkQueue()
        queue.add("a")
        clock.now += 7
        queue.add("b")
        queue.add("a")
        collector = QueueCollector({"checkpoints": queue})
        waiting = [
            value(collector, f"snapshot_queue_{name}", queue="checkpoints") for name in ("depth", "oldest_seconds")
        ]
        runner = asyncio.create_task(queue.run(broken, 2))
        await asyncio.sleep(0.01)
        runner.cancel()
        await asyncio.wait([runner])
        names = ("depth", "oldest_seconds", "retries_total")
        return waiting, [value(collector, f"snapshot_queue_{name}", queue="checkpoints") for name in names]

    assert ([2, 7], [0, 0, 2]) == run(scenario())


def test_events_that_wait_and_events_given_up_are_told(monkeypatch):
    monkeypatch.setattr(recorder_room, "MAX_WAITING", 2)
    recorder = Recorder(None, "test")
    for number in range(5):
        recorder.record(obj("a", 1) | {"kind": "Job", "apiVersion": "batch/v1"}, "Normal", "Said", f"sentence {number}")
    collector = RecorderCollector(recorder)

    assert (2, 3) == (value(collector, "snapshot_events_waiting"), value(collector, "snapshot_events_dropped_total"))
