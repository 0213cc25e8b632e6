"""Plans applied to the objects of a file, pass after pass: stories, and that every world comes to rest."""

import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.api import keys
from contract.api.states import Phase
from snapshotctl.offline.dry_run import dry_run
from tests.support.builders.checkpoints import (
    AGENT_MOUNT,
    JOB,
    NOW,
    POD_MOUNT,
    POD_MOUNT_CREATE,
    ago,
    capture_pod,
    claim,
    condition,
    container_status,
    creating,
    failed,
    job,
    labelled,
    pending,
    status_of,
)
from tests.support.builders.objects import ID, checkpoint


def after(*objects, values=AGENT_MOUNT):
    return dry_run(objects, values, NOW)


def only(result, kind):
    return [obj for obj in result.objects if obj["kind"] == kind]


def test_a_story_from_new_to_ready():
    first = after(checkpoint(), values=POD_MOUNT_CREATE)
    second = after(*first.objects, values=POD_MOUNT_CREATE)
    (made,) = only(second, "Job")
    made["status"] = {"conditions": [condition("Complete")]}
    made["metadata"]["annotations"][keys.ANN_CHECKPOINT_STATUS] = "completed"
    third = after(*second.objects, values=POD_MOUNT_CREATE)

    phases = [only(result, "DynamoCheckpoint")[0]["status"]["phase"] for result in (first, second, third)]
    assert ["Pending", "Creating", "Ready"] == phases
    assert 1 == len(only(second, "PersistentVolumeClaim"))
    assert [("Normal", "CheckpointReady", "DynamoCheckpoint/qwen")] == [
        (event["type"], event["reason"], event["object"]) for event in third.events
    ]


def test_the_input_is_left_alone():
    given_objects = [pending()]
    before = copy.deepcopy(given_objects)
    dry_run(given_objects, AGENT_MOUNT, NOW)

    assert before == given_objects


def test_objects_that_do_not_matter_come_out_as_they_went_in():
    other = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "data": {"a": "b"}}

    assert other in after(pending(), other).objects


def test_of_two_with_one_identity_only_one_gets_a_job():
    result = after(pending(name="b"), pending(name="a"))

    assert 1 == len(only(result, "Job"))
    phases = {obj["metadata"]["name"]: obj["status"]["phase"] for obj in only(result, "DynamoCheckpoint")}
    assert {"a": "Creating", "b": "Failed"} == phases


def test_a_deleted_checkpoint_is_gone_when_its_cleanup_has_ended():
    obj = labelled(status=status_of("Ready", jobName=JOB))
    obj["metadata"] |= {"deletionTimestamp": ago(9), "finalizers": [keys.FINALIZER]}
    running = after(obj)
    (cleanup,) = only(running, "Job")
    cleanup["status"] = {"conditions": [condition("Complete")]}
    ended = after(*running.objects)

    assert f"checkpoint-cleanup-{ID}" == cleanup["metadata"]["name"]
    assert 5.0 == running.requeue_after_seconds
    assert [] == ended.objects


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param({"kind": "DynamoCheckpoint", "metadata": {"name": "x"}, "spec": "text"}, id="spec-is-text"),
        pytest.param({"kind": "DynamoCheckpoint", "metadata": {"name": "x"}, "status": []}, id="status-is-a-list"),
        pytest.param({"kind": "DynamoCheckpoint", "metadata": {"name": "x"}}, id="empty"),
    ],
)
def test_what_no_schema_has_seen_does_not_stop_the_rest(broken):
    result = after(broken, pending())

    assert "Creating" == only(result, "DynamoCheckpoint")[1]["status"]["phase"]


JOBS = st.sampled_from(
    [
        None,
        job(),
        job(condition("Complete")),
        job(condition("Failed")),
        job(condition("Complete"), annotations={keys.ANN_CHECKPOINT_STATUS: "completed"}),
        job(annotations={keys.ANN_CHECKPOINT_STATUS: "failed"}),
        job(owner="another"),
    ]
)
PODS = st.sampled_from(
    [
        None,
        capture_pod(condition("PodScheduled", "False", message="0/1 nodes")),
        capture_pod(condition("PodScheduled"), condition("ContainersReady")),
        capture_pod(containers=[container_status({"waiting": {"reason": "ErrImagePull"}})]),
    ]
)
TWO = [{"version": version, "manifestDigest": "blake3:0"} for version in ("2", "1")]
CHECKPOINTS = st.sampled_from(
    [
        checkpoint(),
        pending(),
        creating(),
        creating(annotations={keys.ANN_ARTIFACT_VERSION: "2"}),
        labelled(status=status_of("Ready", jobName=JOB)),
        labelled(status=status_of("Ready", jobName=JOB), annotations={keys.ANN_ARTIFACT_VERSION: "2"}),
        labelled(status=failed("JobDeleted", jobName=JOB)),
        labelled(status=failed("DuplicateCheckpointID")),
        labelled(labels={keys.LABEL_CHECKPOINT_ID: "../x"}),
        checkpoint(annotations={keys.ANN_AUTO_CHECKPOINT: "true"}),
        creating(annotations={keys.ANN_AUTO_CHECKPOINT: "true"}),
        pending(annotations={keys.ANN_ADOPT: "3"}),
        labelled(status=status_of("Ready", jobName=JOB), annotations={keys.ANN_ADOPT: "../3"}),
        labelled(status=status_of("Ready", jobName=JOB, versions=TWO), annotations={keys.ANN_ARTIFACT_VERSION: "2"}),
    ]
)
VALUES = st.sampled_from([AGENT_MOUNT, POD_MOUNT, POD_MOUNT_CREATE])
OTHERS = st.lists(
    st.sampled_from([claim(), labelled("other", status=status_of("Ready")), pending(name="third")]), max_size=3
)


@given(CHECKPOINTS, JOBS, PODS, OTHERS, VALUES)
def test_every_world_comes_to_rest(obj, capture, pod, others, values):
    """From any state, with nothing changing around it, a few passes later nothing is written any more."""
    if pod is not None:
        pod["metadata"]["labels"] = {keys.LABEL_JOB_NAME: JOB, keys.LABEL_IS_SOURCE: "true"}
    objects = [each for each in (obj, capture, pod, *others) if each is not None]
    for _ in range(5):
        result = dry_run(objects, values, NOW)
        assert result.error is None
        before, objects = objects, result.objects

    assert before == objects
    assert [] == result.events
    assert all(each["status"]["phase"] in set(Phase) for each in objects if each["kind"] == "DynamoCheckpoint")
