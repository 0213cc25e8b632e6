"""What the system made is tried again by itself, at times that the status alone tells."""

import json
from datetime import timedelta

import pytest

from contract.api import keys
from contract.api.checkpoint import next_version
from contract.api.states import LASTING
from controller.checkpoints.actions import SetAnnotations
from controller.checkpoints.plan.retry import in_words
from tests.support.builders.checkpoints import (
    AGENT_MOUNT,
    JOB,
    NOW,
    condition,
    condition_in,
    job,
    labelled,
    load_values,
    status_of,
    step,
)
from tests.support.builders.objects import ID, checkpoint

AUTO = {keys.ANN_AUTO_CHECKPOINT: "true", keys.ANN_ARTIFACT_VERSION: "1"}
FILE = {"readySignal": "File"}
FAILED = job(annotations={keys.ANN_CHECKPOINT_STATUS: "failed", keys.ANN_CAPTURE_MESSAGE: "criu: no"})


def automatic(status, **notes):
    obj = labelled(status=status, annotations=AUTO | notes, job=FILE)
    obj["metadata"]["finalizers"] = [keys.FINALIZER]
    return obj


def capturing(attempts=1, version="1"):
    name = f"checkpoint-job-{ID}-{version}"
    obj = automatic(status_of("Creating", jobName=name, attempts=attempts))
    obj["metadata"]["annotations"][keys.ANN_ARTIFACT_VERSION] = version
    return obj


def after(obj, planned):
    return obj | {"status": planned.status or obj["status"]}


def waiting():
    obj = capturing()
    return after(obj, step(obj, job=FAILED))


@pytest.mark.parametrize("reason", sorted(LASTING))
def test_what_the_next_start_would_meet_again_is_not_tried_again(reason):
    notes = FAILED["metadata"]["annotations"] | {keys.ANN_CAPTURE_REPORT: json.dumps({"reason": reason})}
    planned = step(capturing(), job=job(annotations=notes))

    assert "Failed" == planned.status["phase"]
    assert f"criu: no ({reason}); another start would end the same way" in planned.status["message"]


def test_a_denied_driver_is_tried_again_because_another_node_may_have_another():
    notes = FAILED["metadata"]["annotations"] | {keys.ANN_CAPTURE_REPORT: json.dumps({"reason": "gpu-driver-denied"})}
    planned = step(capturing(), job=job(annotations=notes))

    assert "RetryScheduled" == condition_in(planned.status, "Ready")["reason"]


def test_a_failed_attempt_waits_for_the_next_and_says_so():
    planned = step(capturing(), job=FAILED)

    assert ("Pending", 60.0) == (planned.status["phase"], planned.requeue_after)
    assert "attempt 2 of 3 in 1m0s: criu: no" == planned.status["message"]
    assert "RetryScheduled" == condition_in(planned.status, "Ready")["reason"]
    assert ("False", "JobFailed") == tuple(
        condition_in(planned.status, "JobCompleted")[f] for f in ("status", "reason")
    )
    assert [("Warning", "RetryScheduled")] == [(note.type, note.reason) for note in planned.events]


@pytest.mark.parametrize(
    ("seconds", "actions", "again"),
    [
        pytest.param(0, (), 60.0, id="at-once"),
        pytest.param(59, (), 1.0, id="nearly"),
        pytest.param(60, (SetAnnotations({keys.ANN_ARTIFACT_VERSION: "2"}),), None, id="due"),
        pytest.param(9999, (SetAnnotations({keys.ANN_ARTIFACT_VERSION: "2"}),), None, id="after-a-long-outage"),
        pytest.param(-9999, (), 60.0, id="clock-set-back"),
    ],
)
def test_the_time_comes_from_the_status_alone(seconds, actions, again):
    """A restarted controller sees just this, and writes nothing while it waits."""
    planned = step(waiting(), now=NOW + timedelta(seconds=seconds))

    assert (actions, None, (), again) == (planned.actions, planned.status, planned.events, planned.requeue_after)


def test_the_raised_version_starts_the_next_attempt():
    obj = waiting()
    obj["metadata"]["annotations"][keys.ANN_ARTIFACT_VERSION] = "2"
    planned = step(obj)

    assert ("Creating", f"{JOB[:-1]}2", 2) == tuple(planned.status[f] for f in ("phase", "jobName", "attempts"))
    assert "message" not in planned.status


def test_the_last_attempt_is_failed_with_what_to_do():
    planned = step(capturing(3, "3"), job=FAILED)

    assert ("Failed", None) == (planned.status["phase"], planned.requeue_after)
    assert "attempt 3 of 3" in planned.status["message"]
    assert keys.ANN_ARTIFACT_VERSION in planned.status["message"]
    assert [("Warning", "CheckpointFailed")] == [(note.type, note.reason) for note in planned.events]


def test_a_version_raised_by_hand_begins_a_new_count():
    obj = capturing(3, "3")
    obj = after(obj, step(obj, job=FAILED))
    obj["metadata"]["annotations"][keys.ANN_ARTIFACT_VERSION] = "4"

    assert 1 == step(obj).status["attempts"]


def test_a_deleted_job_is_an_attempt_too():
    planned = step(capturing())

    assert ("Pending", "JobDeleted") == (planned.status["phase"], condition_in(planned.status, "JobCreated")["reason"])
    assert 60.0 == planned.requeue_after


def test_the_second_pause_is_longer_and_the_last_one_repeats():
    values = load_values("automatic: {attempts: 5, backoff: [1s, 2h]}")

    assert [1.0, 7200.0, 7200.0] == [step(capturing(n), values, job=FAILED).requeue_after for n in (1, 2, 3)]


def test_one_attempt_means_no_retry():
    assert "Failed" == step(capturing(), load_values("automatic: {attempts: 1}"), job=FAILED).status["phase"]


def test_what_people_made_waits_for_people():
    obj = labelled(status=status_of("Creating", jobName=JOB))

    assert "Failed" == step(obj, AGENT_MOUNT, job=FAILED).status["phase"]


def test_a_success_ends_it():
    done = job(condition("Complete"), annotations={keys.ANN_CHECKPOINT_STATUS: "completed"})
    obj = capturing()
    ready = after(obj, step(obj, job=done))

    assert ("Ready", None) == (ready["status"]["phase"], step(ready).status)


@pytest.mark.parametrize(
    ("version", "taken", "expected"),
    [
        pytest.param("1", (), "2", id="number"),
        pytest.param("9", ("10",), "11", id="taken"),
        pytest.param("b", (), "b-2", id="word"),
        pytest.param("b-2", (), "b-3", id="word-and-number"),
        pytest.param("../x", (), "2", id="hostile"),
        pytest.param("a" * 32, (), "a" * 30 + "-2", id="longest"),
    ],
)
def test_the_next_version(version, taken, expected):
    assert expected == next_version(checkpoint(annotations={keys.ANN_ARTIFACT_VERSION: version}), taken)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [pytest.param(5, "5s", id="s"), pytest.param(60, "1m0s", id="m"), pytest.param(3661, "1h1m1s", id="h")],
)
def test_durations_are_written_as_go_does(seconds, words):
    assert words == in_words(seconds)
