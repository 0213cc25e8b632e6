"""While the Job runs, and when it ends: the table of the contract, and what a failure says."""

import json

import pytest

from contract.api import keys
from contract.config.values import load_values
from tests.support.builders.checkpoints import (
    JOB,
    NOW,
    POD_MOUNT,
    ago,
    capture_pod,
    condition,
    condition_in,
    container_status,
    creating,
    job,
    lease,
    step,
)
from tests.support.builders.objects import ID

STATUS = keys.ANN_CHECKPOINT_STATUS
DIGEST = "blake3:" + "a" * 64
COMPLETED = {STATUS: "completed"}
FAILED = {STATUS: "failed", keys.ANN_CAPTURE_MESSAGE: "criu: disk full; make room"}
COMPLETE_CONDITION = condition("Complete")
FAILED_CONDITION = condition("Failed", reason="DeadlineExceeded", message="active longer than deadline")
LIMITED = "daemonset: {resources: {limits: {memory: 4Gi}}}"
RAN = capture_pod(condition("PodScheduled"), condition("ContainersReady", lastTransitionTime=ago(1)))


@pytest.mark.parametrize(
    ("seen", "renewed", "phase", "reason", "requeue"),
    [
        pytest.param(job(annotations=FAILED), None, "Failed", "JobFailed", None, id="active-failed"),
        pytest.param(job(FAILED_CONDITION, annotations=FAILED), None, "Failed", "JobFailed", None, id="failed-failed"),
        pytest.param(
            job(COMPLETE_CONDITION, annotations=FAILED),
            None,
            "Failed",
            "CheckpointVerificationFailed",
            None,
            id="complete-failed",
        ),
        pytest.param(
            job(COMPLETE_CONDITION, annotations=COMPLETED), None, "Ready", "JobSucceeded", None, id="complete-completed"
        ),
        pytest.param(job(COMPLETE_CONDITION), 5, "Creating", None, 1.0, id="complete-none-agent-active"),
        pytest.param(
            job(COMPLETE_CONDITION),
            31,
            "Failed",
            "CheckpointVerificationFailed",
            None,
            id="complete-none-lease-expired",
        ),
        pytest.param(
            job(COMPLETE_CONDITION), None, "Failed", "CheckpointVerificationFailed", None, id="complete-none-no-lease"
        ),
        pytest.param(
            job(COMPLETE_CONDITION, completionTime=ago(3)), None, "Creating", None, 1.0, id="complete-just-now"
        ),
        pytest.param(job(FAILED_CONDITION), None, "Failed", "JobFailed", None, id="failed-none"),
        pytest.param(
            job(FAILED_CONDITION, annotations=COMPLETED), None, "Failed", "JobFailed", None, id="failed-completed"
        ),
        pytest.param(job(annotations=COMPLETED), None, "Creating", None, None, id="active-completed"),
        pytest.param(job(), 5, "Creating", None, None, id="active-none"),
        pytest.param(
            job(COMPLETE_CONDITION, annotations={STATUS: "perhaps"}),
            None,
            "Failed",
            "CheckpointVerificationFailed",
            None,
            id="unknown-word",
        ),
    ],
)
def test_what_job_annotation_and_agent_add_up_to(seen, renewed, phase, reason, requeue):
    planned = step(creating(), job=seen, pods=(RAN,), lease=None if renewed is None else lease(renewed))
    status = planned.status or creating()["status"]

    assert phase == status["phase"]
    if reason:
        assert reason == condition_in(status, "JobCompleted")["reason"]
    if requeue:
        assert requeue == planned.requeue_after


def test_acquire_time_counts_where_a_lease_was_never_renewed():
    fresh = {"spec": {"acquireTime": ago(2), "leaseDurationSeconds": 30}}

    assert 1.0 == step(creating(), job=job(COMPLETE_CONDITION), lease=fresh).requeue_after


def test_ready_tells_where_what_and_when():
    notes = COMPLETED | {keys.ANN_MANIFEST_DIGEST: DIGEST, keys.ANN_ARTIFACT_SIZE: "1234"}
    planned = step(creating(), POD_MOUNT, job=job(COMPLETE_CONDITION, annotations=notes))

    wanted = {
        "phase": "Ready",
        "createdAt": "2026-01-31T10:00:00Z",
        "location": f"/checkpoints/{ID}/versions/1",
        "storageType": "pvc",
        "size": 1234,
        "manifestDigest": DIGEST,
        "image": {"reference": "example.test/ran:1", "injected": False},
        "jobName": JOB,
        "storageClaim": "ns/snapshot-pvc",
        "versions": [
            {
                "version": "1",
                "manifestDigest": DIGEST,
                "createdAt": "2026-01-31T10:00:00Z",
                "size": 1234,
                "image": {"reference": "example.test/ran:1", "injected": False},
            }
        ],
    }
    assert wanted == {field: planned.status[field] for field in wanted}
    assert "True" == condition_in(planned.status, "Ready")["status"]
    assert [("Normal", "CheckpointReady")] == [(note.type, note.reason) for note in planned.events]


@pytest.mark.parametrize(
    ("size", "values", "expected"),
    [
        pytest.param(4 << 30, LIMITED, [], id="as-large"),
        pytest.param(5 << 30, LIMITED, ["the artifact has 5.0 GiB, and a node keeps 4.0 GiB"], id="larger"),
        pytest.param(50 << 30, "", [], id="without-a-limit"),
    ],
)
def test_an_artifact_that_no_node_keeps_in_page_cache_is_warned_of(size, values, expected):
    notes = COMPLETED | {keys.ANN_MANIFEST_DIGEST: DIGEST, keys.ANN_ARTIFACT_SIZE: str(size)}
    planned = step(creating(), load_values(values), job=job(COMPLETE_CONDITION, annotations=notes))
    found = [note for note in planned.events if note.reason == "LargerThanPageCache"]
    assert [("Warning", words) for words in expected] == [
        (note.type, note.message.partition(" of art")[0]) for note in found
    ]


@pytest.mark.parametrize(
    "size", [pytest.param("", id="empty"), pytest.param("12 GB", id="text"), pytest.param("-1", id="negative")]
)
def test_an_unreadable_size_is_left_out(size):
    seen = job(COMPLETE_CONDITION, annotations=COMPLETED | {keys.ANN_ARTIFACT_SIZE: size})

    assert "size" not in step(creating(), job=seen).status


def test_the_location_is_that_of_the_job_not_of_a_newer_version():
    obj = creating(annotations={keys.ANN_ARTIFACT_VERSION: "9"})
    planned = step(obj, job=job(COMPLETE_CONDITION, annotations=COMPLETED))

    assert f"/checkpoints/{ID}/versions/1" == planned.status["location"]


@pytest.mark.parametrize(
    "seen",
    [pytest.param(None, id="gone"), pytest.param(job(owner="uid-of-another"), id="another-object-of-that-name")],
)
def test_a_deleted_job_fails_and_keeps_its_name(seen):
    planned = step(creating(), job=seen)

    assert ("Failed", JOB) == (planned.status["phase"], planned.status["jobName"])
    assert ("False", "JobDeleted") == tuple(
        condition_in(planned.status, "JobCreated")[field] for field in ("status", "reason")
    )
    assert keys.ANN_ARTIFACT_VERSION in planned.status["message"]


def test_a_failure_carries_the_agents_words_and_the_way_out():
    planned = step(creating(), job=job(annotations=FAILED))

    assert planned.status["message"].startswith("criu: disk full; make room")
    assert keys.ANN_ARTIFACT_VERSION in planned.status["message"]
    assert [("Warning", "CheckpointFailed")] == [(note.type, note.reason) for note in planned.events]


@pytest.mark.parametrize(
    ("expected", "said", "reason"),
    [
        pytest.param("criu: no room (storage-unwritable);", "criu: no room", "storage-unwritable", id="code"),
        pytest.param("descriptor 7 (io-uring);", "descriptor 7 (io-uring)", "io-uring", id="has-it"),
        pytest.param("criu: no;", "criu: no", "made up by somebody", id="no-code-of-ours"),
    ],
)
def test_a_failure_names_the_agents_code(expected, said, reason):
    """By it people find what to do: docs/reasons.md, and snapshotctl does."""
    notes = {keys.ANN_CAPTURE_MESSAGE: said, keys.ANN_CAPTURE_REPORT: json.dumps({"reason": reason})}
    planned = step(creating(), job=job(annotations=FAILED | notes))

    assert planned.status["message"].startswith(expected)


@pytest.mark.parametrize(
    ("state", "words"),
    [
        pytest.param({"terminated": {"exitCode": 3, "reason": "Error"}}, "exited with code 3", id="exit-code"),
        pytest.param({"terminated": {"exitCode": 137, "reason": "OOMKilled"}}, "(OOMKilled)", id="out-of-memory"),
        pytest.param(
            {"terminated": {"exitCode": 128, "reason": "StartError", "message": "exec snapshot-standby: not found"}},
            "make docker-build-placeholder",
            id="no-placeholder",
        ),
    ],
)
def test_a_failed_job_is_explained_by_its_pod(state, words):
    pod = capture_pod(containers=[container_status(state)])

    assert words in step(creating(), job=job(FAILED_CONDITION), pods=(pod,)).status["message"]


def test_a_stock_image_is_told_by_its_name_and_the_remedy_before_the_runtimes_words():
    said = "exec snapshot-standby: not found"
    state = {"terminated": {"exitCode": 128, "reason": "StartError", "message": said}}
    pod = capture_pod(containers=[container_status(state) | {"image": "stock:1"}])
    message = step(creating(), job=job(FAILED_CONDITION), pods=(pod,)).status["message"]

    assert "image stock:1 has no snapshot-standby" in message
    assert 0 < message.index("placeholder.mode=inject") < message.index(said)


GONE = {STATUS: "failed", keys.ANN_CAPTURE_REPORT: '{"reason": "worker-exited"}', keys.ANN_CAPTURE_MESSAGE: "it exited"}


@pytest.mark.parametrize(
    ("conditions", "state", "words"),
    [
        pytest.param(
            [],
            {"terminated": {"exitCode": 128, "reason": "StartError", "message": "exec snapshot-standby: not found"}},
            ["cannot be started", "make docker-build-placeholder"],
            id="never-started",
        ),
        pytest.param(
            [condition("FailureTarget", reason="DeadlineExceeded")],
            {"terminated": {"exitCode": 143, "reason": "Error"}},
            ["deadline of 3600 s", "activeDeadlineSeconds", "spec.job.readySignal", "it exited"],
            id="job-is-ended-for-its-deadline",
        ),
        pytest.param(
            [FAILED_CONDITION],
            {"terminated": {"exitCode": 143, "reason": "Error"}},
            ["deadline of 3600 s", "it exited"],
            id="job-ended-for-its-deadline",
        ),
        pytest.param([], {"terminated": {"exitCode": 3, "reason": "Error"}}, ["it exited"], id="by-itself"),
    ],
)
def test_a_worker_that_ended_for_another_cause_than_its_own_is_explained_by_that_cause(conditions, state, words):
    pod = capture_pod(containers=[container_status(state)])
    message = step(creating(), job=job(*conditions, annotations=GONE), pods=(pod,)).status["message"]

    assert [] == [each for each in words if each not in message]


def test_a_failed_job_without_a_pod_gives_the_jobs_words():
    status = step(creating(), job=job(FAILED_CONDITION)).status

    assert "DeadlineExceeded: active longer than deadline" in status["message"]


def test_the_clock_is_passed_in():
    """The same look gives the same plan."""
    seen = {"job": job(COMPLETE_CONDITION, annotations=COMPLETED)}

    assert step(creating(), now=NOW, **seen) == step(creating(), now=NOW, **seen)
