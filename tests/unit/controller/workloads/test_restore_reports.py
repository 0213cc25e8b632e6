"""Each restore report is handed on once, whatever the copy goes through."""

import asyncio
import json
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.api import keys
from contract.api.times import parse_time
from controller.workloads.reports import Reports
from kube.errors import GoneError
from kube.informer import Informer
from kube.resources import PODS
from tests.support.fake_kube import ScriptedWatches, obj
from tests.support.virtual_time import run


def pod(version, *, seconds=0.5, container_id="c1", text=None, name="p", uid=None):
    report = json.dumps({"container": "main", "outcome": "restored", "seconds": {"total": seconds}, "bytes": 7})
    notes = {keys.ANN_RESTORE_REPORT: report if text is None else text}
    notes[keys.ANN_RESTORE_CONTAINER_ID_PREFIX + "main"] = container_id
    found = obj(name, version, uid=uid)
    found["metadata"]["annotations"] = notes
    return found


def heard(lists, watches, *, counting=True, seconds=100.0):
    async def scenario():
        told = []
        reports = Reports()
        reports.listen(lambda report: told.append(report.seconds["total"]))
        reports.count(on=counting)
        informer = Informer(ScriptedWatches(lists, watches), PODS)
        reports.follow(informer)
        task = asyncio.create_task(informer.run())
        await asyncio.sleep(seconds)
        task.cancel()
        await asyncio.wait([task])
        return told

    return run(scenario())


@pytest.mark.parametrize(
    ("expected", "lists", "watches"),
    [
        pytest.param([], [([pod(1)], 10)], [], id="there at the start"),
        pytest.param([0.5], [([obj("p", 1)], 10)], [[("MODIFIED", pod(11))]], id="written later"),
        pytest.param([0.5], [([], 10)], [[("ADDED", pod(11))]], id="a pod first seen with it"),
        pytest.param([0.5], [([obj("p", 1)], 10)], [[("MODIFIED", pod(11)), ("MODIFIED", pod(12))]], id="seen again"),
        pytest.param(
            [0.5, 0.5],
            [([obj("p", 1)], 10)],
            [[("MODIFIED", pod(11)), ("MODIFIED", pod(12, container_id="c2"))]],
            id="a restarted container, same figures",
        ),
        pytest.param(
            [0.5, 0.25],
            [([obj("p", 1)], 10)],
            [[("MODIFIED", pod(11)), ("MODIFIED", pod(12, seconds=0.25))]],
            id="another restore",
        ),
        pytest.param(
            [0.5, 0.5],
            [([obj("p", 1)], 10)],
            [[("MODIFIED", pod(11)), ("DELETED", pod(12)), ("ADDED", pod(13, uid="another"))]],
            id="another pod of the same name",
        ),
        pytest.param([], [([obj("p", 1)], 10)], [[("MODIFIED", pod(11, text="{"))]], id="not JSON"),
        pytest.param([], [([obj("p", 1)], 10)], [[("MODIFIED", pod(11, text="x" * 10**5))]], id="too long"),
        pytest.param([], [([obj("p", 1)], 10)], [[("DELETED", pod(11))]], id="gone before it was seen"),
    ],
)
def test_reports(expected, lists, watches):
    assert expected == heard(lists, watches)


def test_a_relist_tells_nothing_twice_and_misses_nothing():
    gone = GoneError(410, "Expired", "too old")
    lists = [([obj("p", 1)], 10), ([pod(11), pod(12, name="q", seconds=0.25)], 20)]
    watches = [[("MODIFIED", pod(11)), gone]]

    assert [0.5, 0.25] == heard(lists, watches)


def test_who_does_not_lead_does_not_count():
    assert [] == heard([([], 10)], [[("ADDED", pod(11))]], counting=False)


LAST_WORD = "2026-01-31T10:00:00.500000Z"
"""Of the leader before."""


def taken_over(*times, led_until=LAST_WORD, twice=False):
    """What is told by one that begins to lead at 10:01 and finds a pod for each time of a report."""
    moments = [parse_time(LAST_WORD) + timedelta(minutes=1), parse_time(led_until) if led_until else None]
    told = []
    reports = Reports(lambda: moments[1], lambda: moments[0])
    reports.listen(lambda report: told.append(report.seconds["total"]))
    informer = Informer(ScriptedWatches([], []), PODS)
    reports.follow(informer)
    for number, at in enumerate(times, start=1):
        found = pod(number, name=f"p{number}", seconds=number)
        report = json.loads(found["metadata"]["annotations"][keys.ANN_RESTORE_REPORT])
        text = json.dumps(report | ({"at": at} if at else {}))
        informer.store.put(pod(number, name=f"p{number}", text=text))
    informer.store.put(obj("not-restored", 99))
    informer.store.put(pod(98, name="unreadable", text="{"))
    for on in (True, True) if twice else (True,):
        reports.count(on=on)
    return told


@pytest.mark.parametrize(
    ("expected", "times"),
    [
        pytest.param([1], ["2026-01-31T10:00:00.500001Z"], id="after the last word"),
        pytest.param([], [LAST_WORD], id="seen by the leader before"),
        pytest.param([2], ["2026-01-31T09:00:00Z", "2026-01-31T10:00:59Z"], id="one of each"),
        pytest.param([1], ["2026-01-31T11:00:30+01:00"], id="another zone"),
        pytest.param([1], ["2026-01-31T10:01:20Z"], id="a clock that is a little ahead"),
        pytest.param([], ["2026-01-31T10:02:00Z"], id="a time far in the future would count with each leader"),
        pytest.param([], [None], id="an agent of an earlier release"),
        pytest.param([], ["2026-01-31T10:00:59"], id="no zone"),
        pytest.param([], ["soon"], id="no time"),
        pytest.param([], ["0001-01-01T00:00:00+23:59"], id="no time that there is in UTC"),
        pytest.param([], [17], id="not even text"),
    ],
)
def test_what_was_reported_while_nobody_led_is_counted_by_who_leads_next(expected, times):
    assert expected == taken_over(*times)


def test_who_never_led_has_nothing_to_catch_up():
    assert [] == taken_over("2026-01-31T10:00:59Z", led_until=None)


def test_it_is_caught_up_with_once():
    assert [1] == taken_over("2026-01-31T10:00:59Z", twice=True)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.text(max_size=64)
    | st.dictionaries(st.sampled_from(["outcome", "seconds", "bytes", "reason", "at"]), JSON).map(json.dumps)
)
def test_no_text_breaks_the_copy(text):
    heard([([], 10)], [[("ADDED", pod(11, text=text))]], seconds=0.01)
