"""A checkpoint of a running pod: handed to the pod's agent, whose word on the pod ends it."""

import json

import pytest

from contract.api import keys
from contract.api.running import CaptureResult, new_request
from tests.support.builders.checkpoints import JOB, POD_MOUNT, ago, condition_in, labelled, status_of, step
from tests.support.builders.objects import ID, template

DIGEST = "blake3:" + "a" * 64
SOURCE = {"podName": "web-1", "podUID": "pod-uid"}
REPORT = {"container": "main", "outcome": "captured", "seconds": {"freeze": 0.1, "dump": 0.2}, "bytes": 9}
CAPTURED = {
    keys.ANN_CHECKPOINT_STATUS: "completed",
    keys.ANN_MANIFEST_DIGEST: DIGEST,
    keys.ANN_ARTIFACT_SIZE: "9",
    keys.ANN_CAPTURE_REPORT: json.dumps(REPORT),
}
FAILED = {keys.ANN_CHECKPOINT_STATUS: "failed", keys.ANN_CAPTURE_MESSAGE: "a descriptor of io_uring (io-uring)"}


def pod(result=None, *, uid="pod-uid", phase="Running", asks="qwen", request=None):
    notes = {keys.ANN_CAPTURE: request or new_request(asks)}
    if result is not None:
        notes[keys.ANN_CAPTURE_RESULT] = result.to_json()
    return {
        "metadata": {"name": "web-1", "namespace": "ns", "uid": uid, "annotations": notes},
        "spec": {"nodeName": "node-1", "containers": [{"name": "main", "image": "example.test/ran:1"}]},
        "status": {"phase": phase},
    }


def pending(**parts):
    return labelled(**{"status": status_of("Pending"), "source": SOURCE} | parts)


def creating(since=5, job=None):
    begun = {"type": "JobCreated", "status": "True", "reason": "PodCaptureStarted", "lastTransitionTime": ago(since)}
    status = status_of("Creating", jobName=JOB, conditions=[begun])
    return labelled(status=status, source=SOURCE, job=job)


def result(notes, *, checkpoint="uid-1", version="1"):
    return CaptureResult("qwen@1", checkpoint, version, notes)


@pytest.mark.parametrize(
    ("phase", "reason", "obj", "seen", "values"),
    [
        pytest.param("Creating", "PodCaptureStarted", pending(), pod(), {}, id="runs"),
        pytest.param("Failed", "SourcePodGone", pending(), None, {}, id="is-not-there"),
        pytest.param("Failed", "SourcePodGone", pending(), pod(uid="another"), {}, id="another-of-its-name"),
        pytest.param("Failed", "SourcePodGone", pending(), pod(phase="Succeeded"), {}, id="has-ended"),
        pytest.param("Failed", "PodCaptureFailed", pending(), pod(), {"values": POD_MOUNT}, id="volume-in-the-pod"),
        pytest.param(
            "Failed", "TemplateInvalid", pending(pod_template=template(hostPID=True)), pod(), {}, id="no-such-restore"
        ),
    ],
)
def test_it_is_handed_to_its_agent_or_refused(phase, reason, obj, seen, values):
    planned = step(obj, **values, source_pod=seen)
    assert phase == planned.status["phase"]
    assert reason in {each["reason"] for each in planned.status["conditions"]}
    assert () == planned.actions
    if phase == "Creating":
        assert JOB == planned.status["jobName"]
        assert ["PodCaptureStarted"] == [event.reason for event in planned.events]


@pytest.mark.parametrize(
    ("phase", "reason", "seen"),
    [
        pytest.param("Ready", "PodCaptured", pod(result(CAPTURED)), id="captured"),
        pytest.param("Failed", "PodCaptureFailed", pod(result(FAILED)), id="failed"),
        pytest.param("Failed", "SourcePodGone", None, id="gone-without-a-word"),
        pytest.param("Creating", None, pod(), id="no-word-yet"),
        pytest.param("Creating", None, pod(result(CAPTURED, checkpoint="an-earlier-one")), id="word-of-another"),
        pytest.param("Creating", None, pod(result(CAPTURED, version="0")), id="word-of-an-earlier-version"),
        pytest.param("Failed", "PodCaptureFailed", pod(result(FAILED, version=""), request="qwen@1"), id="refused"),
        pytest.param("Creating", None, pod(result(FAILED, version=""), request="qwen@2"), id="earlier-refusal"),
    ],
)
def test_the_agents_word_ends_it(phase, reason, seen):
    planned = step(creating(), source_pod=seen)
    status = planned.status or creating()["status"]
    assert (phase, reason) == (status["phase"], (condition_in(status, "JobCompleted") or {}).get("reason"))
    assert () == planned.actions
    if phase == "Ready":
        assert (DIGEST, 9, "Read") == (status["manifestDigest"], status["size"], status["proof"])
        assert ["1"] == [each["version"] for each in status["versions"]]
        assert "example.test/ran:1" == status["image"]["reference"]
    if phase == "Creating":
        assert 1.0 == planned.requeue_after


@pytest.mark.parametrize(
    ("phase", "words", "since", "seen"),
    [
        pytest.param("Creating", None, 5, pod(), id="soon"),
        pytest.param("Creating", "no agent has captured pod web-1 on node node-1 yet", 31, pod(), id="no-agent"),
        pytest.param("Creating", "does not name this checkpoint", 31, pod(asks="another"), id="pod-does-not-ask"),
        pytest.param("Failed", "yet, and its time is over", 61, pod(), id="too-late"),
    ],
)
def test_what_it_waits_for_is_said(phase, words, since, seen):
    planned = step(creating(since, {"activeDeadlineSeconds": 60}), source_pod=seen)
    status = planned.status or creating()["status"]
    assert phase == status["phase"]
    assert (words or "") in status.get("message", "")


READY = {"phase": "Ready", "jobName": JOB, "manifestDigest": DIGEST, "location": f"/checkpoints/{ID}/versions/1"}
ANSWERED = CaptureResult("qwen@2", "uid-1", "1", CAPTURED)


def ready(version="2", source=SOURCE):
    found = labelled(status=status_of(**READY), annotations={keys.ANN_ARTIFACT_VERSION: version})
    return found | {"spec": found["spec"] | ({"source": source} if source else {})}


@pytest.mark.parametrize(
    ("phase", "obj", "seen"),
    [
        pytest.param("Ready", ready(), pod(asks="another"), id="does-not-ask"),
        pytest.param("Ready", ready(), pod(ANSWERED, request="qwen@2"), id="was-answered"),
        pytest.param("Ready", ready(), None, id="is-gone"),
        pytest.param("Ready", ready(), pod(uid="another"), id="another-of-its-name"),
        pytest.param("Creating", ready(), pod(ANSWERED, request="qwen@3"), id="asks-again"),
        pytest.param("Ready", ready(version="1"), None, id="the-version-that-there-is"),
    ],
)
def test_a_new_version_that_no_pod_asks_for_leaves_the_artifact(phase, obj, seen):
    planned = step(obj, source_pod=seen)
    status = planned.status or obj["status"]
    kept = phase == "Ready"
    assert (phase, DIGEST if kept else None) == (status["phase"], status.get("manifestDigest"))
    told = [event for event in planned.events if event.reason == "PodCaptureNotRequested"]
    refused = kept and obj["metadata"]["annotations"][keys.ANN_ARTIFACT_VERSION] == "2"
    assert refused == bool(told) == ("snapshotctl checkpoint --pod" in status.get("message", ""))
    assert refused == (planned.requeue_after is not None) or not kept
    assert "True" == condition_in(status, "Ready")["status"] if refused else True


def test_it_is_said_once_and_no_longer_when_the_version_is_set_back():
    obj = ready()
    obj["status"] = step(obj).status
    assert [] == [event.reason for event in step(obj).events]
    obj["metadata"]["annotations"][keys.ANN_ARTIFACT_VERSION] = "1"
    after = step(obj).status
    assert ("CheckpointReady", None) == (condition_in(after, "Ready")["reason"], after.get("message"))


def test_an_automatic_one_is_not_tried_again():
    obj = creating()
    obj["metadata"]["annotations"] = {keys.ANN_AUTO_CHECKPOINT: "true"}
    obj["metadata"]["finalizers"] = [keys.FINALIZER]
    assert "Failed" == step(obj, source_pod=pod(result(FAILED))).status["phase"]
