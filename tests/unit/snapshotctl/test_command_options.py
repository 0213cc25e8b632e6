"""What the command line takes before it asks a cluster: files and folders, durations, namespaces, ids, colours."""

import json

import click
import pytest
import yaml
from click.testing import CliRunner

from contract.api import keys
from snapshotctl.__main__ import main
from snapshotctl.commands import checkpoint
from snapshotctl.commands.options import Duration
from snapshotctl.live.reach import Reach
from snapshotctl.offline.manual import restore_facts
from snapshotctl.run.placing import placed
from tests.support.builders.objects import opted_in, pod, ready


def manifest(name):
    obj = opted_in(name="qwen")
    metadata = {key: value for key, value in obj["metadata"].items() if key != "generateName"}
    return json.dumps(obj | {"metadata": metadata | {"name": name}})


@pytest.fixture
def folder(tmp_path):
    """A folder of manifests as kubectl reads it, with files in it that kubectl does not read."""
    (tmp_path / "deeper").mkdir()
    (tmp_path / "notes.txt").write_text("no manifest")
    for path, name in (("a.yaml", "a"), ("b.yml", "b"), ("c.json", "c"), ("deeper/d.yaml", "d")):
        (tmp_path / path).write_text(manifest(name))
    return tmp_path


@pytest.fixture
def why(tmp_path_factory):
    """``snapshotctl why`` without a cluster; gives the pods that it answered for."""
    objects = tmp_path_factory.mktemp("cluster") / "objects.yaml"
    objects.write_text(yaml.safe_dump(ready()))

    def invoke(*arguments, stdin=None):
        return CliRunner().invoke(main, ["why", *arguments, "--objects", str(objects), "-o", "json"], input=stdin)

    return invoke


def answered(result):
    return [answer["object"] for answer in json.loads(result.stdout)["answers"]]


@pytest.mark.parametrize(
    ("pods", "arguments"),
    [
        pytest.param(["a", "b"], ["-f", "a.yaml", "-f", "b.yml"], id="two-files"),
        pytest.param(["a", "b", "c"], ["-f", "."], id="folder"),
        pytest.param(["a", "b", "c", "d"], ["-R", "-f", "."], id="recursive"),
        pytest.param(["d", "x", "a"], ["-f", "deeper", "-f", "-", "-f", "a.yaml"], id="in-the-order-of-the-line"),
    ],
)
def test_why_answers_for_every_file(folder, why, monkeypatch, pods, arguments):
    monkeypatch.chdir(folder)
    result = why(*arguments, stdin=manifest("x"))
    assert [f"Pod/{name}" for name in pods] == answered(result)


@pytest.mark.parametrize(
    ("words", "arguments"),
    [
        pytest.param("none.yaml: No such file or directory", ["-f", "a.yaml", "-f", "none.yaml"], id="missing"),
        pytest.param("no file in it ends in .json, .yaml, .yml; -R", ["-f", "empty"], id="empty-folder"),
        pytest.param("-R goes with -f FILE", ["web", "-R"], id="recursive-without-file"),
        pytest.param("standard input (-) can be read only once", ["-f", "-", "--values", "-"], id="stdin-twice"),
        pytest.param("notes.txt: document 1: an object is needed", ["-f", "notes.txt"], id="not-a-manifest"),
    ],
)
def test_files_that_cannot_be_read_are_named(folder, why, monkeypatch, words, arguments):
    (folder / "empty").mkdir()
    monkeypatch.chdir(folder)
    result = why(*arguments)
    assert 2 == result.exit_code
    assert words in result.stderr


@pytest.mark.parametrize(
    ("coloured", "environment", "terminal"),
    [
        pytest.param(True, {}, True, id="terminal"),
        pytest.param(True, {"NO_COLOR": ""}, True, id="empty-says-nothing"),
        pytest.param(False, {"NO_COLOR": "1"}, True, id="no-color"),
        pytest.param(False, {}, False, id="no-terminal"),
    ],
)
def test_colours(folder, coloured, environment, terminal):
    objects = folder / "objects.txt"
    objects.write_text(yaml.safe_dump(ready()))
    arguments = ["why", "-f", str(folder / "a.yaml"), "--objects", str(objects)]
    result = CliRunner(env={"NO_COLOR": None} | environment).invoke(main, arguments, color=terminal)
    assert 0 == result.exit_code, result.output
    assert coloured == ("\x1b" in result.stdout)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        pytest.param(90, "90", id="seconds"),
        pytest.param(1.5, "1.5", id="fraction"),
        pytest.param(2, "2s", id="s"),
        pytest.param(2700, "45m", id="m"),
        pytest.param(5400, "1h30m", id="h-m"),
        pytest.param(5400, "1.5h", id="fraction-of-an-hour"),
        pytest.param(3723, "1h2m3s", id="h-m-s"),
    ],
)
def test_durations(seconds, text):
    assert seconds == Duration().convert(text, None, None)


@pytest.mark.parametrize("text", ["", "0", "0s", "-5", "nan", "soon", "5 m", "30m1h", "1d", "m", "2S"])
def test_what_is_no_duration(text):
    with pytest.raises(click.BadParameter, match=r"write it as 90, 90s, 45m or 1h30m"):
        Duration().convert(text, None, None)


@pytest.mark.parametrize(
    ("namespace", "own", "insisted"),
    [
        pytest.param("prod", "prod", None, id="manifest"),
        pytest.param("prod", None, "prod", id="flag"),
        pytest.param("prod", "prod", "prod", id="they-agree"),
        pytest.param(None, None, None, id="the-contexts"),
    ],
)
def test_the_manifests_namespace_is_used(namespace, own, insisted):
    metadata = {"name": "web"} | ({"namespace": own} if own else {})
    assert Reach(namespace=namespace) == placed(Reach(namespace=insisted), pod() | {"metadata": metadata})


@pytest.mark.parametrize("command", ["checkpoint", "restore"])
def test_a_namespace_that_contradicts_the_manifest_is_refused(tmp_path, command):
    """Both values are named, and no cluster is asked."""
    path = tmp_path / "pod.json"
    path.write_text(json.dumps(pod() | {"metadata": {"name": "web", "namespace": "dev"}}))
    result = CliRunner().invoke(main, [command, "--manifest", str(path), "--checkpoint-id", "x", "-n", "prod"])
    assert 1 == result.exit_code
    assert "Pod web says namespace dev, -n says prod; leave one of them out" in result.stderr


@pytest.mark.parametrize("command", ["checkpoint", "restore"])
@pytest.mark.parametrize("wrong", ["a,b", "x=y", "../etc", "A", "a" * 64])
def test_an_id_is_checked_before_it_selects(tmp_path, command, wrong):
    path = tmp_path / "pod.json"
    path.write_text(json.dumps(pod() | {"metadata": {"name": "web"}}))
    result = CliRunner().invoke(main, [command, "--manifest", str(path), "--checkpoint-id", wrong])
    assert 1 == result.exit_code
    assert "error: --checkpoint-id: checkpoint id" in result.stderr


def test_checkpoint_accepts_the_job_file_option(tmp_path):
    path = tmp_path / "pod.json"
    path.write_text("{}")
    given = ["--manifest", str(path)]
    with_option = checkpoint.command.make_context("checkpoint", [*given, "--disable-cuda-checkpoint-job-file"])
    assert checkpoint.command.make_context("checkpoint", given).params == with_option.params


def test_restore_prints_pod_and_location():
    annotations = {keys.ANN_TARGET_CONTAINERS: "main", keys.ANN_ADMISSION: "restore-shaped"}
    created = pod() | {"metadata": {"name": "web", "namespace": "prod", "annotations": annotations}}
    checkpoint = ready(status={"phase": "Ready", "location": "/checkpoints/x/versions/1"})
    assert {
        "status": "submitted",
        "namespace": "prod",
        "name": "web",
        "restore_pod": "web",
        "checkpoint_id": "x",
        "checkpoint_location": "/checkpoints/x/versions/1",
        "containers": "main",
        "admission": "restore-shaped",
    } == restore_facts(created, checkpoint, "x")


def test_help_is_a_command():
    runner = CliRunner()
    assert runner.invoke(main, ["--help"]).stdout == runner.invoke(main, ["help"]).stdout
    assert runner.invoke(main, ["why", "--help"]).stdout == runner.invoke(main, ["help", "why"]).stdout
    unknown = runner.invoke(main, ["help", "wibble"])
    assert (2, True) == (unknown.exit_code, "No such command 'wibble'" in unknown.stderr)


@pytest.mark.parametrize("words", [("whyy",), ("help", "whyy")], ids=" ".join)
def test_a_slip_in_a_verb_is_answered_with_the_nearest(words):
    result = CliRunner().invoke(main, words)

    assert 2 == result.exit_code
    assert "No such command 'whyy'; did you mean why?" in result.stderr
