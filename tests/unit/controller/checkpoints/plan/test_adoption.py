"""An artifact in storage is taken over only where the Job that looked at it says it is whole."""

import json

import pytest

from contract.api import keys
from controller.checkpoints.actions import CreateJob, DeleteJob, SetAnnotations
from controller.checkpoints.observed import Refusal, Refused
from controller.checkpoints.storage_jobs import MAX_NAME, adopt_job_name, cleanup_job_name
from tests.support.builders.checkpoints import (
    JOB,
    POD_MOUNT,
    capture_pod,
    claim,
    condition,
    condition_in,
    container_status,
    failed,
    job,
    labelled,
    status_of,
    step,
)
from tests.support.builders.objects import ID, checkpoint

ADOPT_JOB = f"checkpoint-adopt-{ID}-3"
DIGEST = "blake3:" + "b" * 64
TOLD = {"version": "3", "digest": DIGEST, "size": 77, "createdAt": "2026-01-01T00:00:00Z"}
PENDING, READY = status_of("Pending"), status_of("Ready", jobName=JOB, manifestDigest="blake3:" + "a" * 64)


def asking(status=PENDING, version="3"):
    return labelled(status=status, annotations={keys.ANN_ADOPT: version})


def looked(told, *conditions):
    """The Job that looked, and its pod with what it told."""
    text = told if isinstance(told, str) else json.dumps(told)
    code = 0 if isinstance(told, dict) and "error" not in told else 1
    ended = container_status({"terminated": {"exitCode": code, "message": text}}, name="inspect")
    ends = conditions or (condition("Failed" if code else "Complete"),)
    return {"adopt_job": job(*ends, name=ADOPT_JOB), "adopt_pods": (capture_pod(containers=[ended]),)}


def after(obj, planned):
    return obj | {"status": planned.status or obj["status"]}


def test_asked_for_an_artifact_a_job_looks_at_it():
    planned = step(asking(), POD_MOUNT, claim=claim())

    (action,) = planned.actions
    spec = action.job["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    assert (ADOPT_JOB, "ns") == tuple(action.job["metadata"][field] for field in ("name", "namespace"))
    assert ["python3", "-m", "artifact", "verify", "/checkpoints", ID, "3"] == container["command"]
    assert container["volumeMounts"][0]["readOnly"]
    assert not spec["automountServiceAccountToken"]
    assert keys.LABEL_CHECKPOINT_ID not in (action.job["spec"]["template"].get("metadata") or {}).get("labels", {})
    assert ("Pending", "AdoptionRunning") == (
        planned.status["phase"],
        condition_in(planned.status, "Adopted")["reason"],
    )


def test_with_agent_mount_it_looks_where_the_volume_is():
    (action,) = step(asking(), release_namespace="release").actions

    assert "release" == action.job["metadata"]["namespace"]


def test_while_it_looks_nothing_is_written():
    obj = asking()
    obj = after(obj, step(obj))
    planned = step(obj, adopt_job=job(name=ADOPT_JOB, active=1))

    assert ((), None, (), 2.0) == (planned.actions, planned.status, planned.events, planned.requeue_after)


def test_a_whole_artifact_makes_it_ready():
    planned = step(asking(), **looked(TOLD))

    wanted = {
        "phase": "Ready",
        "jobName": f"checkpoint-job-{ID}-3",
        "location": f"/checkpoints/{ID}/versions/3",
        "manifestDigest": DIGEST,
        "size": 77,
        "storageClaim": "ns/snapshot-pvc",
        "image": {"reference": "example.test/vllm-placeholder:1", "injected": False},
        "versions": [
            {
                "version": "3",
                "manifestDigest": DIGEST,
                "size": 77,
                "createdAt": "2026-01-01T00:00:00Z",
                "image": {"reference": "example.test/vllm-placeholder:1", "injected": False},
            }
        ],
    }
    assert wanted == {field: planned.status[field] for field in wanted}
    assert ("True", "Adopted") == tuple(condition_in(planned.status, "Adopted")[f] for f in ("status", "reason"))
    assert ["CheckpointReady", "Adopted"] == [note.reason for note in planned.events]
    assert () == planned.actions


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        pytest.param({"kernel": "6.1.0"}, {"kernel": "6.1.0"}, id="as-its-manifest-says"),
        pytest.param({"kernel": ["6.1.0"]}, None, id="unusable"),
    ],
)
def test_what_an_adopted_artifact_was_taken_on(source, expected):
    planned = step(asking(), **looked(TOLD | {"source": source}))
    assert ("Ready", expected) == (planned.status["phase"], planned.status.get("source"))


def test_of_an_artifact_that_nobody_noted_is_said_what_a_capture_would_do():
    """Tools that were not needed do no harm; without tools that its image lacks a restored pod would not start."""
    obj = asking()
    obj["metadata"]["annotations"] |= {keys.ANN_AUTO_CHECKPOINT: "true", keys.ANN_TEMPLATE_HASH: "0" * 32}
    planned = step(obj, **looked(TOLD))

    assert planned.status["image"]["injected"]


def test_the_question_is_taken_away_only_after_the_answer_is_written():
    obj = asking()
    answered = after(obj, step(obj, **looked(TOLD)))
    planned = step(answered, **looked(TOLD))
    (annotate, delete) = planned.actions

    assert SetAnnotations({keys.ANN_ARTIFACT_VERSION: "3", keys.ANN_ADOPT: None}) == annotate
    assert isinstance(delete, DeleteJob)
    settled = answered | {"metadata": answered["metadata"] | {"annotations": {keys.ANN_ARTIFACT_VERSION: "3"}}}
    rest = step(settled)
    assert ((), None) == (rest.actions, rest.status)


@pytest.mark.parametrize(
    ("told", "words"),
    [
        pytest.param({"error": "artifact-missing", "message": "x/versions/3"}, "artifact-missing", id="missing"),
        pytest.param({"error": "artifact-corrupt", "message": "pages-1.img is not"}, "pages-1.img", id="corrupt"),
        pytest.param("", "exited with code 1", id="no-answer"),
        pytest.param("[1, 2]", "exited with code 1", id="no-object"),
        pytest.param("[" * 5000, "exited with code 1", id="deep"),
        pytest.param(TOLD | {"version": "4"}, "something else", id="another-version"),
        pytest.param(TOLD | {"digest": "sha1:0"}, "something else", id="no-digest"),
        pytest.param(TOLD | {"size": "big"}, "something else", id="no-size"),
    ],
)
def test_anything_less_fails_with_what_to_do(told, words):
    planned = step(asking(), **looked(told))

    assert "Failed" == planned.status["phase"]
    assert ("False", "AdoptionFailed") == tuple(
        condition_in(planned.status, "Adopted")[f] for f in ("status", "reason")
    )
    assert [] == [
        word for word in (words, "version 3", keys.ANN_ARTIFACT_VERSION) if word not in planned.status["message"]
    ]


def test_a_failed_question_is_taken_away_and_may_be_asked_again():
    obj = asking()
    seen = looked({"error": "artifact-missing", "message": "gone"})
    answered = after(obj, step(obj, **seen))

    assert [SetAnnotations({keys.ANN_ADOPT: None}), DeleteJob(seen["adopt_job"])] == list(
        step(answered, **seen).actions
    )
    assert [CreateJob] == [type(action) for action in step(answered).actions]
    unasked = answered | {"metadata": answered["metadata"] | {"annotations": {}}}
    assert ((), None) == (step(unasked).actions, step(unasked).status)
    bumped = answered | {"metadata": answered["metadata"] | {"annotations": {keys.ANN_ARTIFACT_VERSION: "4"}}}
    assert f"checkpoint-job-{ID}-4" == step(bumped).status["jobName"]


def test_what_is_ready_stays_so_whatever_the_answer():
    obj = asking(READY)
    looking = after(obj, step(obj))
    refused = step(looking, **looked({"error": "artifact-missing", "message": "gone"}))

    assert "Ready" == looking["status"]["phase"] == refused.status["phase"]
    assert READY["manifestDigest"] == refused.status["manifestDigest"]
    assert [("Warning", "AdoptionFailed")] == [(note.type, note.reason) for note in refused.events]


def test_a_refused_version_is_not_the_wanted_one():
    """It would be captured, in place of the artifact that the checkpoint has."""
    obj = asking(READY)
    seen = looked({"error": "artifact-missing", "message": "gone"})
    answered = after(obj, step(after(obj, step(obj)), **seen))

    assert SetAnnotations({keys.ANN_ADOPT: None}) == step(answered, **seen).actions[0]


def test_a_failed_capture_can_become_an_adoption():
    planned = step(asking(failed("JobFailed", jobName=JOB)), **looked(TOLD))

    assert "Ready" == planned.status["phase"]


def test_a_running_capture_is_waited_for():
    obj = asking(status_of("Creating", jobName=JOB))

    assert "Creating" == (step(obj, job=job()).status or obj["status"])["phase"]


def test_a_hostile_version_is_refused():
    planned = step(asking(version="../3"))

    assert ((), "Failed") == (planned.actions, planned.status["phase"])
    assert keys.ANN_ADOPT in planned.status["message"]


@pytest.mark.parametrize(
    ("expected", "seen"),
    [
        pytest.param(("Normal", "AdoptionRunning"), {}, id="looked at"),
        pytest.param(
            ("Warning", "AdoptionBlocked"),
            {"refusal": Refusal("Job", Refused.FORBIDDEN, "exceeded quota")},
            id="its Job is refused",
        ),
        pytest.param(
            ("Warning", "AdoptionBlocked"),
            {
                "adopt_job": job(name=ADOPT_JOB),
                "adopt_pods": (capture_pod(condition("PodScheduled", "False", message="no node")),),
            },
            id="its pod has no node",
        ),
    ],
)
@pytest.mark.parametrize("before", [pytest.param(PENDING, id="pending"), pytest.param(READY, id="ready")])
def test_what_becomes_of_the_question_is_told_once(expected, seen, before):
    """Also of a checkpoint that stays Ready meanwhile, and only trouble is a Warning."""
    obj = asking(before)
    planned = step(obj, **seen)

    assert [expected] == [(note.type, note.reason) for note in planned.events]
    assert () == step(after(obj, planned), **seen).events


def test_a_refused_job_is_said_and_tried_again():
    planned = step(asking(), refusal=Refusal("Job", Refused.FORBIDDEN, "exceeded quota"))

    assert ((), 30.0) == (planned.actions, planned.requeue_after)
    assert "exceeded quota" in planned.status["message"]


def test_a_stuck_look_says_why():
    pod = capture_pod(condition("PodScheduled", "False", message="claim not found"))
    planned = step(asking(), adopt_job=job(name=ADOPT_JOB), adopt_pods=(pod,))

    assert "claim not found" in planned.status["message"]


def test_a_look_without_a_pod_says_why_and_what_to_do():
    event = {"type": "Warning", "message": 'pods "x" is forbidden: violates PodSecurity "restricted:latest"'}
    planned = step(asking(), adopt_job=job(name=ADOPT_JOB, age=60), adopt_events=(event,))

    assert [] == [word for word in ("violates PodSecurity", "baseline") if word not in planned.status["message"]]


def versions(*names):
    return [
        {
            "version": name,
            "manifestDigest": f"blake3:{name * 64}",
            "createdAt": "x",
            "image": {"reference": f"image-of-{name}"},
        }
        for name in names
    ]


def test_an_earlier_version_is_taken_back_without_a_new_capture():
    status = status_of("Ready", jobName=f"checkpoint-job-{ID}-4", versions=versions("3", "4"))
    obj = labelled(status=status, annotations={keys.ANN_ARTIFACT_VERSION: "3"})
    planned = step(obj)
    back = step(after(obj, planned), **looked(TOLD | {"digest": "blake3:" + "3" * 64}))

    assert (ADOPT_JOB, "Ready") == (planned.actions[0].job["metadata"]["name"], planned.status["phase"])
    assert f"checkpoint-job-{ID}-3" == back.status["jobName"]
    assert {"reference": "image-of-3"} == back.status["image"]
    assert ["3", "4"] == [each["version"] for each in back.status["versions"]]
    settled = after(obj, back)
    assert ((), None) == (step(settled).actions, step(settled).status)


def test_an_earlier_version_that_is_another_now_is_captured_anew():
    status = status_of("Ready", jobName=f"checkpoint-job-{ID}-4", versions=versions("3", "4"))
    obj = labelled(status=status, annotations={keys.ANN_ARTIFACT_VERSION: "3"})
    refused = step(obj, **looked(TOLD))

    assert ["4"] == [each["version"] for each in refused.status["versions"]]
    assert "it was changed" in condition_in(refused.status, "Adopted")["message"]
    assert [CreateJob] == [type(action) for action in step(after(obj, refused)).actions]


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(adopt_job_name("a" * 63, "b" * 32), id="adopt"),
        pytest.param(cleanup_job_name("a" * 63), id="cleanup"),
    ],
)
def test_long_names_are_cut_and_stay_apart(name):
    assert MAX_NAME == len(name)
    assert name != adopt_job_name("a" * 63, "c" * 32)


def test_without_any_question_nothing_is_looked_at():
    assert "adopt" not in str(step(checkpoint()).actions)
