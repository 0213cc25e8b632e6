"""The live copy: whatever happens on the way, it ends up right."""

import asyncio
import itertools

import pytest

from kube.errors import ForbiddenError, GoneError, ServerUnavailableError
from kube.informer import Informer, synced
from kube.resources import JOBS
from tests.support.fake_kube import ScriptedWatches, obj
from tests.support.virtual_time import now, run

GONE = GoneError(410, "Expired", "too old resource version")
DOWN = ServerUnavailableError("connection refused")


def follow(lists, watches, seconds=100.0, then=None):
    """Return what an informer knows and reported after *seconds* of a script."""

    async def scenario():
        kube = ScriptedWatches(lists, watches)
        informer = Informer(kube, JOBS)
        told = []
        informer.add_handler(lambda change: told.append((_version(change.old), _version(change.new))))
        task = asyncio.create_task(informer.run())
        await asyncio.sleep(seconds)
        if then:
            then(informer)
        task.cancel()
        await asyncio.wait([task])
        return kube, informer, told

    return run(scenario())


def _version(item):
    return None if item is None else int(item["metadata"]["resourceVersion"])


def test_lists_then_watches_from_there():
    kube, informer, told = follow(
        [([obj("a", 1)], 10)],
        [[("ADDED", obj("b", 11)), ("MODIFIED", obj("a", 12)), ("DELETED", obj("b", 13))]],
        seconds=0.01,
    )

    assert ["10"] == kube.watched_from
    assert [(None, 1), (None, 11), (1, 12), (11, None)] == told
    assert ["a"] == [item["metadata"]["name"] for item in informer.store]


def test_a_watch_that_ends_goes_on_from_the_last_version_and_bookmarks_count():
    bookmark = ("BOOKMARK", {"metadata": {"resourceVersion": "20"}})
    kube, _, told = follow([([], 10)], [[("ADDED", obj("a", 11)), bookmark], []])

    assert ["10", "20", "20"] == kube.watched_from
    assert 1 == kube.listed
    assert [(None, 11)] == told


@pytest.mark.parametrize("error", [pytest.param(GONE, id="expired"), pytest.param(DOWN, id="cut")])
def test_after_an_error_it_lists_anew_and_tells_only_what_changed(error):
    lists = [([obj("a", 1), obj("b", 2)], 10), ([obj("a", 1), obj("c", 14)], 15)]
    kube, _, told = follow(lists, [[error]])

    assert ["10", "15"] == kube.watched_from
    assert [(None, 1), (None, 2), (2, None), (None, 14)] == told


def test_an_unreachable_server_is_asked_again_with_growing_pauses():
    times = []

    class Timed(ScriptedWatches):
        async def list(self, *args, **kwargs):
            times.append(now())
            return await super().list(*args, **kwargs)

    async def scenario():
        informer = Informer(Timed([*[DOWN] * 12, ([], 1)], []), JOBS)
        task = asyncio.create_task(informer.run())
        await synced(informer)
        task.cancel()
        await asyncio.wait([task])

    run(scenario())
    pauses = [after - before for before, after in itertools.pairwise(times)]

    assert 12 == len(pauses)
    assert pauses[0] <= 0.2
    assert 7.5 <= pauses[-1] <= 15


def test_is_synced_only_after_the_first_list():
    _, informer, _ = follow([DOWN, ([], 1)], [], seconds=0.01)
    assert not informer.synced.is_set()
    _, informer, _ = follow([DOWN, ([], 1)], [], seconds=10)
    assert informer.synced.is_set()


def test_learns_from_writes_and_is_not_set_back_by_late_events():
    script = [("ADDED", obj("other", 15))]
    _, informer, told = follow([([obj("a", 1)], 10)], [script], then=lambda i: i.learn(obj("a", 20)))

    assert 20 == _version(informer.store.get("ns", "a"))
    assert (1, 20) == told[-1]


def test_does_not_learn_what_the_watch_has_passed():
    """The object may have been deleted since; nothing would ever take the ghost away."""
    script = [("DELETED", obj("a", 15))]
    _, informer, _ = follow([([obj("a", 1)], 10)], [script], then=lambda i: i.learn(obj("a", 14)))

    assert 0 == len(informer.store)


def test_managed_fields_are_not_kept():
    heavy = obj("a", 1)
    heavy["metadata"]["managedFields"] = ["a", "lot"]
    _, informer, _ = follow([([heavy], 10)], [])

    assert "managedFields" not in informer.store.get("ns", "a")["metadata"]


def test_a_server_that_ends_every_watch_at_once_is_not_spun_at():
    kube, _, _ = follow([([], 10)], [[]] * 1000, seconds=60)

    assert len(kube.watched_from) < 30


def test_only_what_is_kept_is_remembered():
    """Listed and watched objects alike."""

    async def scenario():
        watch = [("ADDED", obj("b", 11, spec={"large": 1}))]
        informer = Informer(
            ScriptedWatches([([obj("a", 1, spec={"large": 1})], 10)], [watch]),
            JOBS,
            keep=lambda item: {"metadata": item["metadata"]},
        )
        task = asyncio.create_task(informer.run())
        await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.wait([task])
        return [sorted(item) for item in informer.store]

    assert [["metadata"], ["metadata"]] == run(scenario())


def test_a_right_that_is_missing_is_said_once_and_once_more_when_it_is_lost_again(caplog):
    denied = ForbiddenError(403, "Forbidden", 'cannot list resource "jobs"')
    kube, informer, _ = follow([denied, denied, denied, ([], 10), denied, denied, ([], 20)], [[denied]])
    assert (7, False) == (kube.listed, informer.forbidden)
    assert 2 == sum("cannot list" in each.getMessage() for each in caplog.records if each.levelname == "WARNING")
