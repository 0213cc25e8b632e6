"""Checkpoints and restores from a pod's manifest."""

import pytest

from contract.api import keys
from snapshotctl.errors import UserError
from snapshotctl.live.waiting import captured
from snapshotctl.offline.manual import check_captured, checkpoint_body, pod_of, restore_body, targets_of
from tests.support.builders.objects import checkpoint, container, pod

TWO = pod(container(), container("side"))


@pytest.mark.parametrize(
    ("words", "objects"),
    [
        pytest.param("found nothing", [], id="empty"),
        pytest.param("found Pod, Pod", [pod(), pod()], id="two"),
        pytest.param("found Deployment", [{"kind": "Deployment"}], id="another-kind"),
        pytest.param("spec must be an object", [{"kind": "Pod", "metadata": {}}], id="no-spec"),
    ],
)
def test_one_pod_is_needed(words, objects):
    with pytest.raises(UserError, match=words):
        pod_of(objects, "file")


@pytest.mark.parametrize(
    ("targets", "said", "noted", "obj"),
    [
        pytest.param(("main",), None, None, TWO, id="main"),
        pytest.param(("side",), "side", None, TWO, id="flag"),
        pytest.param(("side",), None, "side", TWO, id="manifest"),
        pytest.param(("side", "main"), "side, main", "main,side", TWO, id="both-agree"),
        pytest.param(("a",), None, None, pod(container("a")), id="the-only-one"),
        pytest.param(("side", "main"), "main=side,main=main", None, TWO, id="what-they-continue"),
        pytest.param(("side",), "side", "main=side", TWO, id="said-in-the-manifest-alone"),
    ],
)
def test_targets(targets, said, noted, obj):
    annotations = {keys.ANN_TARGET_CONTAINERS: noted} if noted else {}
    assert targets == targets_of(obj | {"metadata": {"annotations": annotations}}, said)


@pytest.mark.parametrize(
    ("words", "said", "noted"),
    [
        pytest.param("is not in the pod", "nobody", None, id="missing"),
        pytest.param("leave one of them out", "main", "side", id="they-do-not-agree"),
        pytest.param("is not in the pod", None, "nobody", id="manifest-is-wrong"),
    ],
)
def test_targets_that_cannot_be(words, said, noted):
    annotations = {keys.ANN_TARGET_CONTAINERS: noted} if noted else {}
    with pytest.raises(UserError, match=words):
        targets_of(TWO | {"metadata": {"annotations": annotations}}, said)


def test_the_checkpoint_is_that_of_the_manifest_without_its_wishes():
    labels = {"app": "web", keys.LABEL_RESTORE: "auto", keys.LABEL_CHECKPOINT_ID: "other"}
    body = checkpoint_body(pod(labels=labels, nodeName="n"), "main", "manual-1", "ns", "Probe")
    job = body["spec"]["job"]
    assert ("manual-1", {keys.LABEL_CHECKPOINT_ID: "manual-1"}) == (
        body["metadata"]["name"],
        body["metadata"]["labels"],
    )
    assert {"app": "web"} == job["podTemplateSpec"]["metadata"]["labels"]
    assert "nodeName" not in job["podTemplateSpec"]["spec"]
    assert ("main", "Probe") == (job["targetContainerName"], job["readySignal"])


def test_an_id_that_cannot_be_one():
    with pytest.raises(UserError, match="--checkpoint-id"):
        checkpoint_body(pod(), "main", "../etc", "ns", "File")


def test_the_restored_pod_asks_by_name():
    obj = pod(labels={keys.LABEL_RESTORE: "auto", "app": "web"}, annotations={keys.ANN_RESTORE_CANDIDATE: "true"})
    body = restore_body(obj | {"status": {}}, "manual-1", ["main"], "ns")
    assert {"app": "web", keys.LABEL_RESTORE: "enabled"} == body["metadata"]["labels"]
    assert {keys.ANN_CHECKPOINT_NAME: "manual-1", keys.ANN_TARGET_CONTAINERS: "main"} == body["metadata"]["annotations"]
    assert "status" not in body


@pytest.mark.parametrize(
    ("status", "phase"),
    [
        pytest.param(None, "Creating", id="goes-on"),
        pytest.param("completed", "Ready", id="done"),
        pytest.param("failed", "Failed", id="failed"),
    ],
)
def test_how_a_capture_ends(status, phase):
    found = captured(checkpoint(status={"phase": phase, "message": "why"}))
    assert status == (found and found.facts["status"])


@pytest.mark.parametrize(
    ("said", "noted"),
    [pytest.param("engine=main", None, id="flag"), pytest.param(None, "engine=main", id="manifest")],
)
def test_only_what_was_captured_is_continued(said, noted):
    obj = TWO | {"metadata": {"annotations": {keys.ANN_TARGET_CONTAINERS: noted} if noted else {}}}
    with pytest.raises(UserError, match="is of container 'main'"):
        check_captured(obj, said, checkpoint())
