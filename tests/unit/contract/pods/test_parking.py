"""Which pods park their worker, and which of them can be woken."""

from pathlib import Path

import pytest

from contract.api import keys
from contract.pods.parking import (
    Unwakeable,
    is_woken,
    parked_id,
    parked_said,
    parked_wanted,
    parking_containers,
    refuse_wake,
    wake_patch,
)

PARKS = [keys.STANDBY, keys.STANDBY_PARK, "--", "worker"]
STATUS = keys.ANN_RESTORE_STATUS_PREFIX + "main"
ID = keys.ANN_RESTORE_CONTAINER_ID_PREFIX + "main"


def pod(command=None, phase="Running", *, deleting=False, **notes):
    metadata = {"name": "web", "resourceVersion": "7", "annotations": notes}
    if deleting:
        metadata["deletionTimestamp"] = "2026-11-21T03:00:00Z"
    containers = [{"name": "main", "command": PARKS if command is None else command}, {"name": "side"}]
    return {"metadata": metadata, "spec": {"containers": containers}, "status": {"phase": phase}}


@pytest.mark.parametrize(
    ("expected", "command"),
    [
        pytest.param(("main",), PARKS, id="standby says so"),
        pytest.param((), [keys.STANDBY, "--", "worker", keys.STANDBY_PARK], id="the worker has such a word"),
        pytest.param((), ["worker", keys.STANDBY_PARK], id="another program"),
        pytest.param((), [keys.STANDBY, keys.STANDBY_WAIT, "--", "worker"], id="a placeholder"),
    ],
)
def test_which_containers_park(expected, command):
    assert expected == parking_containers(pod(command))


@pytest.mark.parametrize(
    ("expected", "found"),
    [
        pytest.param(None, pod(**{STATUS: "parked"}), id="parked"),
        pytest.param(None, pod(phase="Pending"), id="not parked yet"),
        pytest.param(Unwakeable.NOT_PARKED, pod(["worker"]), id="another pod"),
        pytest.param(Unwakeable.ENDING, pod(deleting=True), id="being deleted"),
        pytest.param(Unwakeable.ENDING, pod(phase="Failed"), id="has ended"),
        pytest.param(Unwakeable.ALREADY_WOKEN, pod(**{keys.ANN_WAKE: "now"}), id="woken"),
        pytest.param(Unwakeable.ALREADY_STARTED, pod(**{keys.ANN_WAKE: "now", STATUS: "failed"}), id="cold"),
    ],
)
def test_which_pods_can_be_woken(expected, found):
    refusal = refuse_wake(found)

    assert expected == (None if refusal is None else refusal.code)


@pytest.mark.parametrize(
    ("expected", "notes"),
    [
        pytest.param("abc", {STATUS: "parked", ID: "abc"}, id="parked"),
        pytest.param("", {STATUS: "completed", ID: "abc"}, id="restored"),
        pytest.param("", {}, id="nothing said"),
    ],
)
def test_which_container_is_reported_as_parked(expected, notes):
    assert expected == parked_id(pod(**notes), "main")


def test_the_patch_wakes_the_pod_as_it_was_seen():
    patch = wake_patch(pod(), "now")

    assert {"metadata": {"resourceVersion": "7", "annotations": {keys.ANN_WAKE: "now"}}} == patch
    assert is_woken(patch)
    assert not is_woken(pod(**{keys.ANN_WAKE: ""}))


@pytest.mark.parametrize(
    ("expected", "spec"),
    [
        pytest.param(2, {"parked": 2}, id="two"),
        pytest.param(0, {}, id="not said"),
        pytest.param(0, {"parked": -1}, id="less than none"),
        pytest.param(0, {"parked": "2"}, id="no number"),
    ],
)
def test_how_many_a_checkpoint_keeps_parked(expected, spec):
    assert expected == parked_wanted({"spec": spec})


@pytest.mark.parametrize(
    ("expected", "text"),
    [
        pytest.param(2, "2", id="two"),
        pytest.param(0, "", id="not said"),
        pytest.param(0, "-1", id="less than none"),
        pytest.param(0, "two", id="no number"),
        pytest.param(0, "9" * 5000, id="no number of pods"),
    ],
)
def test_how_many_a_template_wants_parked(expected, text):
    assert expected == parked_said(pod(**{keys.ANN_PARKED: text}))


def test_the_page_has_every_word():
    page = (Path(__file__).parents[4] / "docs" / "parked.md").read_text()

    assert [] == [word for word in Unwakeable if f"| `{word}` |" not in page]
