"""Each restore report is handed on once, whatever the copy goes through."""

import asyncio
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract import keys
from kube.errors import GoneError
from kube.informer import Informer
from kube.resources import PODS
from tests.unit.kube.script import ScriptedWatches, obj
from tests.unit.kube.virtual import run
from workloads.reports import Reports


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


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.text(max_size=64)
    | st.dictionaries(st.sampled_from(["outcome", "seconds", "bytes", "reason"]), JSON).map(json.dumps)
)
def test_no_text_breaks_the_copy(text):
    heard([([], 10)], [[("ADDED", pod(11, text=text))]], seconds=0.01)
