"""When held pods go, as a table and as rules for every input."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.api import keys
from contract.api.states import GateEnd, Phase
from contract.api.times import parse_time
from controller.workloads.gates.gate_policy import GRACE, REFUSED_GRACE, CheckpointView, Hold, Lift, plan
from tests.support.builders.opted_in import GATE, ID, NOW, ago, deleting, of_phase, pod, ready, waiting

WAIT = 1800
BY_NAME = {"auto": False, "named": "qwen"}
GIVEN_UP = {"conditions": [{"type": "Ready", "status": "False", "reason": "WorkloadGone"}]}
REQUIRE = {keys.ANN_POLICY: keys.POLICY_REQUIRE}


def outcome(found, sight=None, wait=WAIT):
    step = plan(found, sight or CheckpointView(), NOW, wait)
    match step:
        case Lift(end):
            return end.value
        case Hold(seconds, problem):
            return "kept" if problem else seconds
        case None:
            return None


@pytest.mark.parametrize(
    ("expected", "found", "sight"),
    [
        pytest.param(None, pod("held"), CheckpointView(ready()), id="no gate"),
        pytest.param(
            None, pod("held", gates=[{"name": "example.com/other"}]), CheckpointView(ready()), id="a foreign gate"
        ),
        pytest.param("checkpoint-ready", waiting(), CheckpointView(ready()), id="ready"),
        pytest.param("checkpoint-ready", waiting(age=10**6), CheckpointView(ready()), id="ready after the time-out"),
        pytest.param("checkpoint-ready", waiting(notes=REQUIRE), CheckpointView(ready()), id="ready and required"),
        pytest.param("checkpoint-deleted", waiting(), CheckpointView(deleting(ready())), id="ready but going"),
        pytest.param("checkpoint-failed", waiting(), CheckpointView(of_phase("Failed")), id="failed"),
        pytest.param("kept", waiting(notes=REQUIRE), CheckpointView(of_phase("Failed")), id="failed and required"),
        pytest.param(WAIT - 5, waiting(), CheckpointView(of_phase("Failed", status=GIVEN_UP)), id="begun anew for it"),
        pytest.param(
            "checkpoint-deleted", waiting(), CheckpointView(deleting(of_phase("Creating"))), id="being deleted"
        ),
        pytest.param(
            "kept", waiting(notes=REQUIRE), CheckpointView(deleting(of_phase("Creating"))), id="deleted and required"
        ),
        pytest.param(WAIT - 5, waiting(), CheckpointView(of_phase("Creating")), id="creating"),
        pytest.param(WAIT - 5, waiting(), CheckpointView(of_phase("Pending")), id="pending"),
        pytest.param(WAIT - 5, waiting(), CheckpointView(of_phase("")), id="new"),
        pytest.param("wait-timeout", waiting(age=WAIT), CheckpointView(of_phase("Creating")), id="too long"),
        pytest.param(
            "kept", waiting(age=WAIT, notes=REQUIRE), CheckpointView(of_phase("Creating")), id="too long, required"
        ),
        pytest.param(WAIT - 5, waiting(), CheckpointView(), id="automatic, still to be made"),
        pytest.param(WAIT - 600, waiting(age=600), CheckpointView(), id="automatic, the controller was away"),
        pytest.param("wait-timeout", waiting(age=WAIT), CheckpointView(), id="automatic, never made"),
        pytest.param(REFUSED_GRACE - 5, waiting(), CheckpointView(refusal="quota"), id="may not be made, for now"),
        pytest.param("checkpoint-failed", waiting(age=61), CheckpointView(refusal="quota"), id="may not be made"),
        pytest.param(GRACE - 5, waiting(**BY_NAME), CheckpointView(), id="by name, not seen yet"),
        pytest.param("checkpoint-deleted", waiting(age=11, **BY_NAME), CheckpointView(), id="by name, gone"),
        pytest.param(
            "checkpoint-deleted",
            waiting(),
            CheckpointView(deleted=parse_time(ago(1))),
            id="automatic, deleted under it",
        ),
        pytest.param(
            WAIT, waiting(age=0), CheckpointView(deleted=parse_time(ago(1))), id="automatic, from after a deletion"
        ),
        pytest.param(
            "checkpoint-deleted",
            waiting(age=20, notes={keys.ANN_REQUEST: keys.REQUEST_WITHDRAWN}),
            CheckpointView(),
            id="automatic, its request withdrawn",
        ),
    ],
)
def test_when(expected, found, sight):
    assert expected == outcome(found, sight)


def test_the_patch_takes_our_gate_and_no_other():
    found = waiting(gates=(GATE, {"name": "example.com/other"}))
    step = plan(found, CheckpointView(of_phase("Failed")), NOW, WAIT)

    assert {
        "metadata": {"resourceVersion": "7", "annotations": {keys.ANN_GATE: "checkpoint-failed"}},
        "spec": {"schedulingGates": [{"$patch": "delete", "name": keys.SCHEDULING_GATE}]},
    } == step.patch


def test_a_ready_checkpoint_makes_the_pod_what_it_would_have_been():
    """Another attempt was needed, and the placeholder's name was not known when the pod was shaped."""
    captured = ready(status={"jobName": f"checkpoint-job-{ID}-2", "image": {"reference": "example.test/placeholder:2"}})
    found = waiting(notes={keys.ANN_ARTIFACT_VERSION: "1"})
    step = plan(found, CheckpointView(captured), NOW, WAIT)

    notes = step.patch["metadata"]["annotations"]
    assert ("checkpoint-ready", "restore-shaped") == (notes[keys.ANN_GATE], notes[keys.ANN_ADMISSION])
    assert "2" == notes[keys.ANN_ARTIFACT_VERSION]
    assert [{"name": "main", "image": "example.test/placeholder:2"}] == step.patch["spec"]["containers"]
    assert found["spec"]["containers"][0]["image"] == notes[keys.ANN_ORIGINAL_IMAGE_PREFIX + "main"]


def test_what_fits_already_is_left_alone():
    found = waiting(notes={keys.ANN_ARTIFACT_VERSION: "1"})
    step = plan(found, CheckpointView(ready()), NOW, WAIT)

    assert keys.ANN_ARTIFACT_VERSION not in step.patch["metadata"]["annotations"]
    assert "containers" not in step.patch["spec"]


def test_an_earlier_original_image_stays():
    key = keys.ANN_ORIGINAL_IMAGE_PREFIX + "main"
    found = waiting(notes={key: "example.test/runtime:1"})
    captured = ready(status={"image": {"reference": "example.test/placeholder:2"}})

    assert key not in plan(found, CheckpointView(captured), NOW, WAIT).patch["metadata"]["annotations"]


def test_a_failure_is_told_in_its_own_words():
    failed = of_phase("Failed", status={"message": "criu said no"})

    assert "criu said no" in plan(waiting(), CheckpointView(failed), NOW, WAIT).why


PODS = st.builds(
    waiting,
    age=st.integers(0, 4 * WAIT),
    auto=st.booleans(),
    notes=st.fixed_dictionaries(
        {},
        optional={
            keys.ANN_POLICY: st.sampled_from(["Require", "Prefer"]),
            keys.ANN_REQUEST: st.just(keys.REQUEST_WITHDRAWN),
        },
    ),
)
CHECKPOINTS = st.none() | st.builds(
    lambda phase, going: deleting(of_phase(phase)) if going else of_phase(phase),
    st.sampled_from(["", *Phase]),
    st.booleans(),
)
SIGHTS = st.builds(
    CheckpointView,
    checkpoint=CHECKPOINTS,
    deleted=st.none() | st.integers(0, WAIT).map(lambda seconds: parse_time(ago(seconds))),
    refusal=st.sampled_from(["", "quota"]),
)


@given(PODS, SIGHTS)
def test_no_pod_is_held_for_ever_unless_it_may_not_start_cold(found, sight):
    required = found["metadata"]["annotations"].get(keys.ANN_POLICY) == "Require"
    step = plan(found, sight, NOW, WAIT)
    if isinstance(step, Hold) and not required:
        age = (NOW - parse_time(found["metadata"]["creationTimestamp"])).total_seconds()
        assert step.seconds is not None
        assert 0 <= step.seconds <= WAIT - age


@given(PODS, SIGHTS)
def test_who_must_not_start_cold_goes_only_when_the_checkpoint_is_ready(found, sight):
    found["metadata"]["annotations"][keys.ANN_POLICY] = keys.POLICY_REQUIRE
    step = plan(found, sight, NOW, WAIT)
    assert isinstance(step, Hold) or step.end == GateEnd.CHECKPOINT_READY


@given(PODS, SIGHTS)
def test_ready_is_never_missed_and_never_invented(found, sight):
    step = plan(found, sight, NOW, WAIT)
    phase = ((sight.checkpoint or {}).get("status") or {}).get("phase")
    going = "deletionTimestamp" in (sight.checkpoint or {"metadata": {}})["metadata"]
    assert (phase == "Ready" and not going) == (isinstance(step, Lift) and step.end == GateEnd.CHECKPOINT_READY)


@given(PODS, SIGHTS)
def test_every_patch_touches_only_what_may_change_on_a_held_pod(found, sight):
    step = plan(found, sight, NOW, WAIT)
    if isinstance(step, Lift):
        assert {"metadata", "spec"} == set(step.patch)
        assert {"resourceVersion", "annotations"} == set(step.patch["metadata"])
        assert set(step.patch["spec"]) <= {"schedulingGates", "containers"}
        assert all({"name", "image"} == set(each) for each in step.patch["spec"].get("containers", []))
