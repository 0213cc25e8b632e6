"""A capture that waits for a node while nobody wants its checkpoint: when it ends, and when it begins anew."""

from datetime import timedelta

import pytest

from contract.api import keys
from controller.checkpoints.actions import DeleteJob, SetAnnotations
from tests.support.builders.checkpoints import (
    JOB,
    NOW,
    ago,
    capture_pod,
    condition,
    condition_in,
    job,
    labelled,
    load_values,
    status_of,
    step,
)
from tests.support.builders.objects import ID

GRACE = 300
UNSCHEDULABLE = condition("PodScheduled", "False", reason="Unschedulable", message="3 Insufficient nvidia.com/gpu")
WAITS = {"job": job(age=1000), "pods": (capture_pod(UNSCHEDULABLE, node=""),)}


def automatic(phase="Creating", unwanted=None, version="1", **status):
    notes = {keys.ANN_AUTO_CHECKPOINT: "true", keys.ANN_ARTIFACT_VERSION: version, keys.ANN_WORKLOAD: "Deployment/web"}
    if unwanted is not None:
        notes[keys.ANN_UNWANTED] = ago(unwanted)
    name = f"checkpoint-job-{ID}-{version}"
    made = labelled(
        annotations=notes,
        status=status_of(phase, **{"jobName": name, "attempts": 1} | status),
        job={"readySignal": "File"},
    )
    made["metadata"]["finalizers"] = [keys.FINALIZER]
    return made


def ended(planned):
    return [action for action in planned.actions if isinstance(action, DeleteJob)]


@pytest.mark.parametrize(
    ("expected", "unwanted", "around"),
    [
        pytest.param(True, GRACE, WAITS, id="no-node"),
        pytest.param(True, GRACE, {"job": job(age=1000)}, id="no-pod"),
        pytest.param(True, 9999, WAITS, id="after-a-long-outage"),
        pytest.param(False, None, WAITS, id="wanted"),
        pytest.param(False, GRACE - 1, WAITS, id="not-long-enough"),
        pytest.param(False, 9999, WAITS | {"job": job(age=GRACE - 1)}, id="a-capture-that-began-a-moment-ago"),
        pytest.param(
            False,
            9999,
            WAITS | {"pods": (capture_pod(condition("PodScheduled")),)},
            id="it-has-a-node",
        ),
        pytest.param(
            False,
            9999,
            WAITS | {"job": job(age=1000, annotations={keys.ANN_CHECKPOINT_STATUS: "failed"})},
            id="the-agent-has-spoken",
        ),
        pytest.param(False, 9999, WAITS | {"job": job(condition("Failed"), age=1000)}, id="it-failed"),
    ],
)
def test_which_captures_are_ended(expected, unwanted, around):
    planned = step(automatic(unwanted=unwanted), **around)

    assert ([around["job"]] if expected else []) == [action.job for action in ended(planned)]
    assert expected == ("WorkloadGone" in str(planned.status or ""))


def test_what_is_said_of_it():
    planned = step(automatic(unwanted=GRACE), **WAITS)
    ready = condition_in(planned.status, "Ready")

    assert ("Failed", "False", "WorkloadGone") == (planned.status["phase"], ready["status"], ready["reason"])
    assert "Deployment/web no longer exists" in planned.status["message"]
    assert "automatic.unwantedGrace" in planned.status["message"]
    # Nobody need look into it.
    assert [("Normal", "WorkloadGone")] == [(note.type, note.reason) for note in planned.events]


def test_it_is_looked_at_again_when_the_grace_is_over():
    planned = step(automatic(unwanted=100), **WAITS)

    assert GRACE - 100 == planned.requeue_after


def test_the_grace_is_the_charts():
    values = load_values("automatic: {unwantedGrace: 1h}")

    assert [] == ended(step(automatic(unwanted=GRACE), values, **WAITS))
    assert ended(step(automatic(unwanted=3600), values, **WAITS | {"job": job(age=4000)}))


def test_a_pass_that_was_cut_off_is_ended_by_the_next():
    """The Job went, the status was not written: no failed capture that is tried again."""
    planned = step(automatic(unwanted=GRACE))

    assert ((), "Failed") == (planned.actions, planned.status["phase"])
    assert "WorkloadGone" == condition_in(planned.status, "Ready")["reason"]


def given_up(**parts):
    obj = automatic(unwanted=GRACE)
    status = step(obj, **WAITS).status
    return automatic(**{"phase": "Failed", "unwanted": GRACE} | parts) | {"status": status}


def test_it_rests_until_somebody_comes():
    planned = step(given_up(), now=NOW + timedelta(days=30))

    assert ((), None, (), None) == (planned.actions, planned.status, planned.events, planned.requeue_after)


def test_a_pod_that_names_it_has_it_captured_anew():
    """In a version of its own: the Job that was ended may not be gone yet."""
    again = step(given_up(unwanted=None), **WAITS)
    raised = given_up(unwanted=None, version="2")
    begun = step(raised)

    assert (SetAnnotations({keys.ANN_ARTIFACT_VERSION: "2"}),) == again.actions
    assert ("Creating", f"checkpoint-job-{ID}-2", 1) == tuple(
        begun.status[field] for field in ("phase", "jobName", "attempts")
    )


def test_a_capture_that_failed_otherwise_does_not_begin_by_itself():
    obj = automatic("Failed", conditions=[condition("Ready", "False", reason="JobFailed")])

    assert () == step(obj).actions


def test_a_version_raised_by_hand_has_the_whole_grace():
    raised = given_up(version="2")
    begun = step(raised)
    waits = {"job": job(name=f"checkpoint-job-{ID}-2", age=10), "pods": WAITS["pods"]}
    obj = automatic(unwanted=9999, version="2") | {"status": begun.status}

    assert "Creating" == begun.status["phase"]
    assert [] == ended(step(obj, **waits))
    assert JOB != begun.status["jobName"]
