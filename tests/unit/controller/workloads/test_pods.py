"""What a pod says about itself, and that no more of it is remembered."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.api import keys
from contract.api.checkpoint import controller_of
from contract.api.running import CaptureResult
from controller.workloads import pods
from tests.support.builders.opted_in import DEPLOYED, GATE, NAME, ago, pod, waiting, whole


@pytest.mark.parametrize(
    ("expected", "found"),
    [
        pytest.param(True, pod(), id="requested"),
        pytest.param(True, waiting(), id="held"),
        pytest.param(False, pod(auto=False), id="by name"),
        pytest.param(False, pod("restore-shaped"), id="shaped"),
        pytest.param(False, pod("checkpoint-failed"), id="failed"),
        pytest.param(False, pod("per-pod-identity"), id="refused"),
        pytest.param(False, pod(stamp="../../etc"), id="a stamp that cannot be one"),
        pytest.param(False, pod(named="somebody-elses"), id="another name than the stamp's"),
        pytest.param(False, pod(notes={keys.ANN_REQUEST: "withdrawn"}), id="withdrawn"),
        pytest.param(False, waiting(notes={keys.ANN_GATE: "wait-timeout"}), id="let go"),
    ],
)
def test_who_asks(expected, found):
    assert expected == pods.asks(found)


def test_the_dead_do_not_ask():
    ended, going = pod(), pod()
    ended["status"]["phase"] = "Failed"
    going["metadata"]["deletionTimestamp"] = ago(1)

    assert not pods.asks(ended)
    assert not pods.asks(going)


def test_what_is_kept_is_a_fraction_and_enough():
    large = whole(gates=[GATE], owner=DEPLOYED)
    large["metadata"]["managedFields"] = [{"manager": "kubelet", "fields": "x" * 5000}]
    large["metadata"]["annotations"]["example.com/blob"] = "x" * 50_000
    large["spec"]["containers"][0]["env"] = [{"name": f"E{n}", "value": "x" * 50} for n in range(100)]
    found = pods.kept(large)

    assert len(json.dumps(found)) < 1500
    assert (NAME, True, DEPLOYED) == (pods.checkpoint_name(found), pods.held(found), controller_of(found))
    assert pods.asks(found)


def test_keeping_twice_is_keeping_once():
    once = pods.kept(whole(gates=[GATE], owner=DEPLOYED))
    assert once == pods.kept(once)


@pytest.mark.parametrize(
    ("expected", "notes"),
    [
        pytest.param("a", {keys.ANN_CHECKPOINT: "a", keys.ANN_CHECKPOINT_NAME: "b"}, id="shaped"),
        pytest.param("b", {keys.ANN_CHECKPOINT_NAME: "b", keys.ANN_RESTORE_FROM: "c"}, id="by name"),
        pytest.param("c", {keys.ANN_RESTORE_FROM: "c"}, id="the synonym"),
        pytest.param("", {}, id="none"),
    ],
)
def test_which_checkpoint(expected, notes):
    found = {"metadata": {"name": "p", "namespace": "ns", "annotations": notes}}
    assert expected == pods.checkpoint_name(found)
    assert ((f"ns/{expected}",) if expected else ()) == tuple(pods.by_checkpoint(found))


@given(st.dictionaries(st.sampled_from(sorted(v for k, v in vars(keys).items() if k.startswith("ANN_"))), st.text()))
def test_no_annotation_breaks_a_look(notes):
    found = pod(notes=notes)
    pods.asks(found)
    pods.held(found)
    tuple(pods.by_checkpoint(found))


ASKED = {keys.ANN_CAPTURE: f"{NAME}@1"}


@pytest.mark.parametrize(
    ("expected", "found"),
    [
        pytest.param(True, pod("capturable", notes=ASKED), id="asks"),
        pytest.param(False, pod("capturable"), id="does-not-ask"),
        pytest.param(False, pod("capturable", notes={keys.ANN_CAPTURE: "other@1"}), id="for-another"),
        pytest.param(False, pod("restore-shaped", notes=ASKED), id="restored"),
        pytest.param(
            False,
            pod("capturable", named="somebody-elses", notes={keys.ANN_CAPTURE: "somebody-elses@1"}),
            id="another name than the stamp's",
        ),
        pytest.param(
            False,
            pod("capturable", notes=ASKED | {keys.ANN_CAPTURE_RESULT: CaptureResult(f"{NAME}@1", "u", "1").to_json()}),
            id="answered",
        ),
        pytest.param(
            True,
            pod("capturable", notes=ASKED | {keys.ANN_CAPTURE_RESULT: CaptureResult(f"{NAME}@0", "u", "1").to_json()}),
            id="asks-again",
        ),
    ],
)
def test_whose_worker_asks_for_its_capture(expected, found):
    assert expected == pods.triggers(found)
    assert not pods.asks(found)
