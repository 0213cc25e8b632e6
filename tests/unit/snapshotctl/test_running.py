"""The DynamoCheckpoint of a running pod, and what of it later pods go by."""

import pytest
from click.testing import CliRunner

from contract.api import keys
from contract.pods.template_hash import automatic_id, automatic_name, template_hash
from snapshotctl.__main__ import main
from snapshotctl.errors import UserError
from snapshotctl.offline.manual import ID_PREFIX
from snapshotctl.offline.running import running_checkpoint
from tests.support.builders.objects import container, pod

STAMP = template_hash(pod(), "main")
OWN = automatic_name(automatic_id("ns", STAMP))
AUTOMATIC = {
    "labels": {keys.LABEL_RESTORE: keys.RESTORE_AUTO},
    "annotations": {keys.ANN_TEMPLATE_HASH: STAMP, keys.ANN_CHECKPOINT: OWN},
}


def running(*containers, phase="Running", **parts):
    found = pod(*containers, **parts)
    found["metadata"] |= {"name": "web-1", "uid": "uid-1"}
    return found | {"status": {"phase": phase}}


def test_it_names_the_pod_and_what_it_runs():
    body = running_checkpoint(running(nodeName="node-1"), None, "warm")
    assert {"podName": "web-1", "podUID": "uid-1"} == body["spec"]["source"]
    assert ("warm", "ns", "warm") == (
        body["metadata"]["name"],
        body["metadata"]["namespace"],
        body["metadata"]["labels"][keys.LABEL_CHECKPOINT_ID],
    )
    assert "main" == body["spec"]["job"]["targetContainerName"]
    assert [container()] == body["spec"]["job"]["podTemplateSpec"]["spec"]["containers"]
    assert "nodeName" not in body["spec"]["job"]["podTemplateSpec"]["spec"]
    assert "ns/web-1" == body["spec"]["identity"]["model"]


@pytest.mark.parametrize(
    ("expected", "name", "parts"),
    [
        pytest.param(OWN, None, AUTOMATIC, id="automatic"),
        pytest.param("warm", "warm", AUTOMATIC, id="automatic-by-name"),
        pytest.param(ID_PREFIX, None, {}, id="not-opted-in"),
        pytest.param(
            ID_PREFIX,
            None,
            AUTOMATIC | {"annotations": {keys.ANN_TEMPLATE_HASH: STAMP, keys.ANN_CHECKPOINT: "other"}},
            id="name-that-does-not-follow",
        ),
        pytest.param(ID_PREFIX, None, AUTOMATIC | {"annotations": {}}, id="automatic-without-a-stamp"),
    ],
)
def test_its_name_is_the_one_that_later_pods_ask_for(expected, name, parts):
    body = running_checkpoint(running(**parts), None, name)
    assert body["metadata"]["name"].startswith(expected)
    automatic = (body["metadata"].get("annotations") or {}).get(keys.ANN_AUTO_CHECKPOINT) == "true"
    assert (expected == OWN) == automatic


def test_annotations_that_the_chart_adds_to_the_hash_count():
    notes = {"team/config": "one"}
    stamp = template_hash(pod(annotations=notes), "main", tuple(notes))
    name = automatic_name(automatic_id("ns", stamp))
    said = notes | {keys.ANN_TEMPLATE_HASH: stamp, keys.ANN_CHECKPOINT: name}
    seen = running(labels=AUTOMATIC["labels"], annotations=said)
    assert name == running_checkpoint(seen, None, None, tuple(notes))["metadata"]["name"]
    with pytest.raises(UserError, match="give it a name of its own with --name"):
        running_checkpoint(seen, None, None)


@pytest.mark.parametrize(
    ("words", "seen", "target"),
    [
        pytest.param(
            "is not of the template whose hash is in its annotation nvidia.com/snapshot-template-hash",
            running(container(image="example.test/somebody-elses:1"), **AUTOMATIC),
            None,
            id="says-that-it-is-of-anothers-template",
        ),
        pytest.param("does not run", running(phase="Pending"), None, id="pending"),
        pytest.param("does not run", running(phase="Succeeded"), None, id="ended"),
        pytest.param("is not in the pod", running(), "other", id="no-such-container"),
        pytest.param("choose with --container", running(container(), container("b")), "main,b", id="two"),
    ],
)
def test_what_cannot_be_captured_is_said(words, seen, target):
    with pytest.raises(UserError, match=words):
        running_checkpoint(seen, target, None)


@pytest.mark.parametrize(
    ("words", "arguments"),
    [
        pytest.param("one of --manifest and --pod is needed", [], id="neither"),
        pytest.param("--manifest is not for --pod", ["--pod", "a", "--manifest", "f"], id="both"),
        pytest.param("--checkpoint-id is not for --pod", ["--pod", "a", "--checkpoint-id", "b"], id="id-of-a-pod"),
        pytest.param("are for --pod", ["--manifest", "f", "--name", "b"], id="name-of-a-manifest"),
        pytest.param("are for --pod", ["--manifest", "f", "--wait"], id="wait-for-a-manifest"),
    ],
)
def test_options_that_do_not_fit_are_refused(words, arguments):
    result = CliRunner().invoke(main, ["checkpoint", *arguments])
    assert 2 == result.exit_code
    assert words in result.stderr
