"""On the way out: who cleans up, when, and what stands in the way."""

import pytest

from contract.api import keys
from controller.checkpoints.actions import CreateJob, DeleteJob, SetFinalizer
from controller.checkpoints.observed import Refusal, Refused
from kube.recorder import MAX_MESSAGE
from tests.support.builders import checkpoints
from tests.support.builders.checkpoints import POD_MOUNT, condition, job, labelled, status_of, step
from tests.support.builders.objects import ID
from tests.support.pages import sections

CLEANUP = f"checkpoint-cleanup-{ID}"
COMPLETE, FAILED = condition("Complete"), condition("Failed", message="disk on fire")
JUST_FAILED = FAILED | {"lastTransitionTime": checkpoints.ago(10)}


def leaving(**parts):
    obj = labelled(**{"status": status_of("Ready", jobName=checkpoints.JOB)} | parts)
    obj["metadata"] |= {"deletionTimestamp": checkpoints.ago(1), "finalizers": ["other/one", keys.FINALIZER]}
    return obj


def cleanup(*conditions, checkpoint_id=ID):
    made = job(*conditions, name=CLEANUP, active=1)
    made["metadata"]["labels"] = {keys.LABEL_CHECKPOINT_ID: checkpoint_id}
    return made


def test_without_our_finalizer_nothing_is_done():
    obj = leaving()
    obj["metadata"]["finalizers"] = ["other/one"]

    assert () == step(obj).actions


def test_the_cleanup_job_removes_all_versions_and_nothing_else():
    planned = step(leaving(), POD_MOUNT)

    (action,) = planned.actions
    made, pod = action.job, action.job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert isinstance(action, CreateJob)
    assert (CLEANUP, "ns", ID) == (
        made["metadata"]["name"],
        made["metadata"]["namespace"],
        made["metadata"]["labels"][keys.LABEL_CHECKPOINT_ID],
    )
    assert ["python3", "-m", "artifact", "remove", "/checkpoints", ID] == container["command"]
    assert (0, 300, 300) == tuple(
        made["spec"][field] for field in ("backoffLimit", "activeDeadlineSeconds", "ttlSecondsAfterFinished")
    )
    assert not pod["automountServiceAccountToken"]
    assert {"drop": ["ALL"]} == container["securityContext"]["capabilities"]
    assert 5.0 == planned.requeue_after


def test_with_agent_mount_it_runs_where_the_volume_is():
    (action,) = step(leaving(), release_namespace="release").actions

    assert "release" == action.job["metadata"]["namespace"]
    assert "ownerReferences" not in action.job["metadata"]


def test_another_image_is_expected_to_have_rm():
    (action,) = step(leaving(), checkpoints.load_values("checkpoint: {cleanupImage: 'busybox:1.36'}")).actions
    (container,) = action.job["spec"]["template"]["spec"]["containers"]

    assert ("busybox:1.36", ["rm", "-rf", "--", f"/checkpoints/{ID}"]) == (container["image"], container["command"])


@pytest.mark.parametrize(
    ("there", "actions", "events", "requeue"),
    [
        pytest.param(cleanup(), [], [], 5.0, id="running"),
        pytest.param(cleanup(COMPLETE), [DeleteJob, SetFinalizer], ["ArtifactRemoved"], None, id="complete"),
        pytest.param(cleanup(JUST_FAILED), [], ["CleanupFailed"], 20.0, id="failed-can-be-looked-at"),
        pytest.param(cleanup(FAILED), [DeleteJob], [], 5.0, id="failed-is-tried-again"),
        pytest.param(cleanup(checkpoint_id="other"), [], ["CleanupBlocked"], 60.0, id="of-another-id"),
    ],
)
def test_following_the_cleanup_job(there, actions, events, requeue):
    planned = step(leaving(), cleanup_job=there)

    assert actions == [type(action) for action in planned.actions]
    assert events == [note.reason for note in planned.events]
    assert requeue == planned.requeue_after


@pytest.mark.parametrize(
    ("obj", "around"),
    [
        pytest.param(
            leaving(labels={keys.LABEL_CHECKPOINT_ID: "../x"}, status={"phase": "Failed"}), {}, id="hostile-id"
        ),
        pytest.param(leaving(), {"siblings": (labelled("b", status=status_of("Ready")),)}, id="shared-artifact"),
        pytest.param(
            leaving(),
            {"refusal": Refusal("Job", Refused.NAMESPACE_ENDING, "being terminated")},
            id="namespace-is-being-deleted",
        ),
    ],
)
def test_it_is_let_go_where_there_is_nothing_to_remove_or_no_way(obj, around):
    planned = step(obj, **around)

    assert (SetFinalizer(present=False),) == planned.actions
    assert ["ArtifactKept"] == [note.reason for note in planned.events]


def test_a_refused_cleanup_holds_the_object_and_says_why():
    planned = step(leaving(), refusal=Refusal("Job", Refused.FORBIDDEN, "exceeded quota"))

    assert () == planned.actions
    assert "exceeded quota" in planned.events[0].message


def test_a_cleanup_job_without_a_pod_says_why_and_what_to_do():
    """In a namespace of Pod Security level restricted nothing runs as root; the commands are there, whole, to copy."""
    stuck = job(name=CLEANUP, age=60)
    said = 'pods "x" is forbidden: violates PodSecurity "restricted:latest": runAsUser=0 ' + "x" * 2000
    event = {"type": "Warning", "message": said}
    planned = step(leaving(), cleanup_job=stuck, cleanup_events=(event,))

    (note,) = planned.events
    assert ("CleanupBlocked", ()) == (note.reason, planned.actions)
    for words in (
        "violates PodSecurity",
        "`kubectl label namespace ns pod-security.kubernetes.io/enforce=baseline --overwrite`",
        """`kubectl patch dckpt qwen -n ns --type=merge -p '{"metadata":{"finalizers":null}}'`""",
    ):
        assert words in note.message
    assert len(note.message) < MAX_MESSAGE
    page, anchor = note.message.rsplit(" ", 1)[1].split("#")
    assert "finalizers" in sections(page)[anchor]


def test_a_cleanup_job_that_ran_out_of_time_without_a_pod_has_no_log_to_read():
    stuck = job(JUST_FAILED, name=CLEANUP, age=400)
    event = {"type": "Warning", "message": "exceeded quota: pods"}
    planned = step(leaving(), cleanup_job=stuck, cleanup_events=(event,))

    (note,) = planned.events
    assert ("CleanupBlocked", False) == (note.reason, "kubectl logs" in note.message)
    assert "exceeded quota: pods" in note.message


def test_a_running_capture_is_stopped_first():
    running = job()
    planned = step(leaving(status=status_of("Creating", jobName=checkpoints.JOB)), job=running)

    assert (DeleteJob(running),) == planned.actions
    assert 5.0 == planned.requeue_after


@pytest.mark.parametrize("kind", [pytest.param("job", id="capture"), pytest.param("cleanup_job", id="cleanup")])
def test_a_job_on_its_way_out_is_waited_for(kind):
    going = job() if kind == "job" else cleanup(FAILED)
    going["metadata"]["deletionTimestamp"] = checkpoints.ago(1)
    planned = step(leaving(status=status_of("Creating", jobName=checkpoints.JOB)), **{kind: going})

    assert ((), (), 5.0) == (planned.actions, planned.events, planned.requeue_after)


def test_deletion_goes_on_where_checkpoints_are_switched_off():
    planned = step(leaving(), checkpoints.load_values("checkpoint: {enabled: false}"))

    assert [CreateJob] == [type(action) for action in planned.actions]
