"""``snapshotctl placeholder`` and ``restore --pod`` against a real API server and our webhook; no kubelet, no agent."""

import json
import os
import re
import subprocess
import sys
from uuid import uuid4

import pytest
from click.testing import CliRunner

from contract.api import keys
from snapshotctl.__main__ import main
from tests.support.builders.objects import ID, checkpoint, container, pod
from tests.support.fixtures.installed import Installed
from tests.support.waiting import until

READY = {"phase": "Ready", "checkpointID": ID, "location": f"/checkpoints/{ID}/versions/1"}
NODE = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-1", "labels": {keys.LABEL_NODE_READY: "ready"}}}
BARE = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-2"}}


@pytest.fixture(scope="module")
def release(control_plane, tmp_path_factory):
    """A release whose webhook runs, two checkpoints and two nodes, of which one has an agent."""
    namespace = f"in-place-{uuid4().hex[:6]}"
    control_plane.kubectl("create", "namespace", namespace)
    control_plane.kubectl("create", "serviceaccount", "default", "-n", namespace)
    control_plane.kubectl.apply([NODE, BARE])
    found = Installed(control_plane, namespace, tmp_path_factory.mktemp("release"))
    try:
        for name, ident, status in (("qwen", ID, READY), ("busy", "busy-id", {"phase": "Creating"})):
            found.checkpoint(checkpoint(name, labels={keys.LABEL_CHECKPOINT_ID: ident}), status)
        found.start("webhook")
        until(lambda: found.code(manifest("probe", annotations={keys.ANN_STANDBY: "Wait"})) == "placeholder", "webhook")
        yield found
    finally:
        found.end()


def manifest(name, *containers, annotations=None, **spec):
    found = pod(*containers, labels={keys.LABEL_RESTORE: "enabled"}, annotations=annotations or {}, **spec)
    found["metadata"] = {"name": name, **{part: found["metadata"][part] for part in ("labels", "annotations")}}
    return found


@pytest.fixture
def run(release):
    """Run the command in the release's namespace."""

    def call(*words):
        where = ["-n", release.namespace, "--kubeconfig", str(release.plane.kubeconfig)]
        return CliRunner().invoke(main, [*words, *where])

    return call


@pytest.fixture
def written(tmp_path):
    """Write a pod's manifest, and return the file."""

    def write(body):
        path = tmp_path / "pod.json"
        path.write_text(json.dumps(body))
        return str(path)

    return write


def stored(release, name):
    return release.kubectl.json("get", "pod", name, "-n", release.namespace)


def facts(result):
    return dict(line.split("=", 1) for line in result.stdout.splitlines())


def words_of(result):
    return " ".join(result.stderr.split())


def test_a_placeholder_of_a_checkpoint_waits_and_takes_it(release, run):
    """The seed's command, word for word but for the names."""
    made = run("placeholder", "qwen", "--name", "target")
    assert 0 == made.exit_code, made.output
    assert {"status": "created", "name": "target", "checkpoint_id": ID, "containers": "main"} | facts(made) == facts(
        made
    )
    assert f"snapshotctl restore --pod target --checkpoint-id {ID}" in words_of(made)
    before = stored(release, "target")
    assert [keys.STANDBY, keys.STANDBY_WAIT, "--"] == before["spec"]["containers"][0]["command"][:3]
    assert keys.LABEL_CHECKPOINT_ID not in before["metadata"]["labels"]

    result = run("restore", "--pod", "target", "--checkpoint-id", ID, "--containers", "main")
    assert 0 == result.exit_code, result.output
    assert [
        "status=submitted",
        f"namespace={release.namespace}",
        "name=target",
        "restore_pod=target",
        f"checkpoint_id={ID}",
        f"checkpoint_location=/checkpoints/{ID}/versions/1",
        "containers=main",
        "admission=placeholder",
    ] == result.stdout.splitlines()
    after = stored(release, "target")
    assert ID == after["metadata"]["labels"][keys.LABEL_CHECKPOINT_ID]
    notes = after["metadata"]["annotations"]
    assert ("qwen", "1") == (notes[keys.ANN_CHECKPOINT], notes[keys.ANN_ARTIFACT_VERSION])
    assert before["spec"] == after["spec"]

    again = run("restore", "--pod", "target", "--checkpoint-id", ID)
    assert (1, True) == (again.exit_code, "error: already-restoring: " in again.stderr)


def test_what_is_printed_can_be_created(release, run, written):
    printed = run("placeholder", "--manifest", written(manifest("printed")), "-o", "yaml")
    assert 0 == printed.exit_code, printed.output
    release.kubectl("create", "-n", release.namespace, "-f", "-", stdin=printed.stdout)
    assert "placeholder" == stored(release, "printed")["metadata"]["annotations"][keys.ANN_ADMISSION]
    by_id = run("placeholder", ID, "-o", "json")
    assert re.fullmatch(r"qwen-placeholder-[0-9a-f]{6}", json.loads(by_id.stdout)["metadata"]["name"])
    assert release.namespace == json.loads(by_id.stdout)["metadata"]["namespace"]


@pytest.mark.parametrize(
    ("status", "expected", "arguments"),
    [
        pytest.param(2, "one of CHECKPOINT and --manifest FILE", [], id="nothing"),
        pytest.param(1, "no DynamoCheckpoint qwem", ["qwem"], id="no such checkpoint"),
        pytest.param(1, "did you mean qwen?", ["qwem"], id="a word for it"),
        pytest.param(1, "container 'other' is not in the pod", ["qwen", "--containers", "other"], id="no container"),
        pytest.param(1, "pod busy-one exists", ["qwen", "--name", "busy-one"], id="name taken"),
    ],
)
def test_what_cannot_be_a_placeholder(release, run, status, expected, arguments):
    release.kubectl.apply([manifest("busy-one") | {"metadata": {"name": "busy-one", "namespace": release.namespace}}])
    result = run("placeholder", *arguments)
    assert status == result.exit_code, result.output
    assert expected in words_of(result)


def test_one_that_admission_refuses_is_said_to_start_cold(run, written):
    result = run("placeholder", "--manifest", written(manifest("shared", shareProcessNamespace=True)))
    assert (3, "pod-unsupported") == (result.exit_code, facts(result)["admission"])
    assert "snapshotctl why shared" in words_of(result)


def plain(release):
    release.kubectl.apply([manifest("plain") | {"metadata": {"name": "plain", "namespace": release.namespace}}])
    return "plain"


def bound(release, name, node):
    body = manifest(name, annotations={keys.ANN_STANDBY: "Wait"}, nodeName=node)
    release.create(body)
    return name


@pytest.mark.parametrize(
    ("expected", "make", "arguments"),
    [
        pytest.param("no Pod other", lambda _: "other", [], id="no such pod"),
        pytest.param("has the id other", lambda _: "other", ["--checkpoint-id", "other"], id="no such checkpoint"),
        pytest.param("not-a-placeholder: ", plain, [], id="any pod"),
        pytest.param(
            "checkpoint-not-ready: ",
            lambda release: bound(release, "not-ready", "node-1"),
            ["--checkpoint-id", "busy-id"],
            id="checkpoint not Ready",
        ),
        pytest.param(
            "targets-invalid: ",
            lambda release: bound(release, "wrong-target", "node-1"),
            ["--containers", "side"],
            id="wrong container",
        ),
        pytest.param("no-agent: ", lambda release: bound(release, "no-agent", "node-2"), [], id="no agent on its node"),
    ],
)
def test_what_is_refused_changes_nothing(release, run, expected, make, arguments):
    name = make(release)
    before = stored(release, name) if name != "other" else None
    result = run(
        "restore", "--pod", name, *(["--checkpoint-id", ID] if "--checkpoint-id" not in arguments else []), *arguments
    )
    assert 1 == result.exit_code, result.output
    assert expected in words_of(result)
    assert before == (stored(release, name) if before else None)


def test_another_image_than_the_captured_one(release, run):
    release.checkpoint(
        checkpoint("other", labels={keys.LABEL_CHECKPOINT_ID: "other-image"}),
        READY | {"checkpointID": "other-image", "image": {"reference": "example.test/other:1"}},
    )
    name = bound(release, "image", "node-1")
    result = run("restore", "--pod", name, "--checkpoint-id", "other-image")
    assert (1, True) == (result.exit_code, "image-mismatch: " in result.stderr), result.output


def test_one_on_a_node_with_an_agent_is_patched(release, run):
    name = bound(release, "good", "node-1")
    assert 0 == run("restore", "--pod", f"pod/{name}", "--checkpoint-id", ID).exit_code


def test_completion_knows_what_waits(release, run):
    """Pods that were restored, or that are no placeholders, are no answer."""
    assert 0 == run("placeholder", "qwen", "--name", "spare").exit_code
    until(lambda: ["spare"] == complete(release, "restore -n {} --pod spa"), "a placeholder")
    assert 0 == run("restore", "--pod", "spare", "--checkpoint-id", ID).exit_code
    assert [] == complete(release, "restore -n {} --pod spa")
    until(lambda: ["qwen"] == complete(release, "placeholder -n {} q"), "a checkpoint")


def complete(release, line):
    words = f"snapshotctl {line.format(release.namespace)}"
    environment = os.environ | {
        "KUBECONFIG": str(release.plane.kubeconfig),
        "_SNAPSHOTCTL_COMPLETE": "bash_complete",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split(" ")) - 1),
    }
    argv = [sys.executable, "-c", "from snapshotctl.__main__ import main; main(prog_name='snapshotctl')"]
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False)
    return [each.partition(",")[2] for each in done.stdout.split()]


def test_both_or_none_of_pod_and_manifest(run, written):
    for words in ([], ["--pod", "x", "--manifest", written(manifest("y", container()))]):
        result = run("restore", "--checkpoint-id", ID, *words)
        assert (2, True) == (result.exit_code, "one of --manifest FILE and --pod NAME" in words_of(result))


def test_the_same_manifest_twice_says_what_to_change(run, written):
    arguments = ("restore", "--manifest", written(manifest("twice")), "--checkpoint-id", ID)
    assert 1 != run(*arguments).exit_code

    again = run(*arguments)

    assert 1 == again.exit_code
    assert "pod twice exists; name another in the manifest, or delete it" in words_of(again)


def test_a_parked_worker_is_woken_once(release, run):
    notes = {keys.ANN_CHECKPOINT_NAME: "qwen", keys.ANN_STANDBY: keys.STANDBY_PARKS}
    body = manifest("parked", annotations=notes)
    release.kubectl("create", "-n", release.namespace, "-f", "-", stdin=json.dumps(body))
    before = stored(release, "parked")
    assert [keys.STANDBY, keys.STANDBY_PARK, "--"] == before["spec"]["containers"][0]["command"][:3]

    result = run("wake", "parked")
    assert 0 == result.exit_code, result.output
    assert {"status": "submitted", "namespace": release.namespace, "name": "parked", "containers": "main"} == facts(
        result
    )
    assert stored(release, "parked")["metadata"]["annotations"][keys.ANN_WAKE]
    again = run("wake", "parked")
    assert (1, True) == (again.exit_code, "error: already-woken: " in again.stderr)


@pytest.mark.parametrize(
    ("expected", "name"),
    [
        pytest.param("not-parked: ", "placeholder", id="a placeholder"),
        pytest.param("no Pod", "missing", id="no such pod"),
    ],
)
def test_what_cannot_be_woken(release, run, expected, name):
    if name == "placeholder":
        assert 0 == run("placeholder", "qwen", "--name", name).exit_code
    result = run("wake", name)
    assert (1, True) == (result.exit_code, expected.lower() in words_of(result).lower()), result.output
