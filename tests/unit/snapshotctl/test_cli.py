"""The offline verbs through the command line's own entry point; files in a temporary folder are their input."""

import base64
import json
import subprocess
import sys
import tomllib
from pathlib import Path

import jsonpatch
import pytest
import yaml
from click.testing import CliRunner

from contract.api import keys
from contract.config.values import load_values
from snapshotctl.__main__ import VERBS, main
from tests.support.builders.objects import ID, checkpoint, container, opted_in, pod, ready, review, template
from webhook.review import answer

NOW = "2026-01-29T10:05:00Z"


@pytest.fixture
def run(tmp_path):
    def invoke(verb, objects, *options, stdin=None, text=None):
        path = tmp_path / "objects.yaml"
        path.write_text(yaml.safe_dump_all(objects) if text is None else text)
        return CliRunner().invoke(main, [verb, "--objects", str(path), *options], input=stdin)

    return invoke


def test_admit_prints_the_webhooks_very_answer(run):
    body = json.dumps(review(opted_in()))
    result = run("admit", [ready()], stdin=body)
    assert 0 == result.exit_code
    assert json.loads(answer(body.encode(), lambda *_: ready(), load_values("")).body) == json.loads(result.stdout)
    patch = json.loads(base64.b64decode(json.loads(result.stdout)["response"]["patch"]))
    assert ID == jsonpatch.JsonPatch(patch).apply(opted_in())["metadata"]["labels"][keys.LABEL_CHECKPOINT_ID]


@pytest.mark.parametrize(
    ("code", "obj", "objects"),
    [
        pytest.param("not-opted-in", pod(), [ready()], id="not-opted-in"),
        pytest.param("checkpoint-not-found", opted_in(), [], id="empty-file"),
        pytest.param("checkpoint-not-ready", opted_in(), [checkpoint()], id="not-ready"),
        pytest.param("restore-shaped", opted_in(), [{"kind": "List", "items": [ready()]}], id="list"),
        pytest.param(
            "checkpoint-not-found", opted_in(), [{**ready(), "apiVersion": "other/v1"}], id="somebody-elses-kind"
        ),
    ],
)
def test_admit_exits_0_whatever_the_decision(run, code, obj, objects):
    result = run("admit", objects, stdin=json.dumps(review(obj)))
    assert 0 == result.exit_code
    assert code == json.loads(result.stdout)["response"]["auditAnnotations"]["admission"]


def test_admit_obeys_the_values(run, tmp_path):
    values = tmp_path / "values.yaml"
    values.write_text("checkpoint: {enabled: false}")
    result = run("admit", [ready()], "--values", str(values), stdin=json.dumps(review(opted_in())))
    assert "checkpoint-disabled" == json.loads(result.stdout)["response"]["auditAnnotations"]["admission"]


BROKEN_LABELS = {**ready(), "metadata": {"name": "qwen", "labels": {"a": 1}}}
BROKEN_TEMPLATE = checkpoint(pod_template={"spec": {"containers": "main"}})


@pytest.mark.parametrize(
    ("text", "stdin", "message"),
    [
        pytest.param("", "{", "standard input: the body is not JSON", id="review-not-json"),
        pytest.param("", "{}", "kind must be AdmissionReview", id="not-a-review"),
        pytest.param("", json.dumps(review({"spec": []})), "request.object is no pod", id="not-a-pod"),
        pytest.param("a: [", None, "objects.yaml: not YAML", id="objects-not-yaml"),
        pytest.param("{", None, "objects.yaml: not JSON", id="objects-not-json"),
        pytest.param("---\nname: x", None, "document 1: kind is missing", id="no-kind"),
        pytest.param("kind: Job", None, "metadata.name of a Job is missing", id="no-name"),
        pytest.param("hello", None, "an object is needed, found str", id="not-an-object"),
        pytest.param(json.dumps(BROKEN_LABELS), None, "metadata.labels must map text to text", id="labels"),
        pytest.param(
            json.dumps(BROKEN_TEMPLATE),
            None,
            "spec.job.podTemplateSpec.spec.containers: Input should be",
            id="template",
        ),
        pytest.param(json.dumps({**ready(), "status": "x"}), None, "status must be an object", id="status"),
    ],
)
def test_unreadable_input_exits_2_and_names_what_is_wrong(run, text, stdin, message):
    result = run("admit", [], text=text, stdin=stdin or json.dumps(review(opted_in())))
    assert 2 == result.exit_code
    assert message in result.stderr
    assert "" == result.stdout


@pytest.mark.parametrize("verb", ["admit", "plan"])
def test_files_that_are_not_there(verb, tmp_path):
    result = CliRunner().invoke(main, [verb, "--objects", str(tmp_path / "none.yaml")])
    assert 2 == result.exit_code
    assert "none.yaml: No such file or directory" in result.stderr


def test_bad_values_exit_2_with_every_problem(run, tmp_path):
    values = tmp_path / "values.yaml"
    values.write_text("wibble: 1\nstorage: {accessMode: nfs}")
    result = run("plan", [], "--values", str(values))
    assert 2 == result.exit_code
    assert "wibble: unknown key" in result.stderr
    assert "storage.accessMode" in result.stderr


def planned(result):
    assert 0 == result.exit_code, result.output
    return json.loads(result.stdout)


def by_kind(document, kind):
    return [obj for obj in document["objects"] if obj["kind"] == kind]


def test_plan_of_a_new_checkpoint_then_of_what_that_pass_left(run):
    first = planned(run("plan", [checkpoint()], "-o", "json", "--now", NOW))
    assert {"objects", "events", "requeueAfterSeconds", "error"} == first.keys()
    (after,) = first["objects"]
    assert ("Pending", ID) == (after["status"]["phase"], after["status"]["checkpointID"])
    second = planned(run("plan", first["objects"], "-o", "json", "--now", NOW))
    (job,) = by_kind(second, "Job")
    assert f"checkpoint-job-{ID}-1" == job["metadata"]["name"]
    (event,) = second["events"]
    assert ("Normal", "JobCreated", "DynamoCheckpoint/qwen") == (event["type"], event["reason"], event["object"])
    assert second["error"] is None


def test_plan_knows_when_the_capture_is_done(run):
    pending = planned(run("plan", [checkpoint()], "-o", "json", "--now", NOW))["objects"]
    creating = planned(run("plan", pending, "-o", "json", "--now", NOW))["objects"]
    (job,) = [obj for obj in creating if obj["kind"] == "Job"]
    job["metadata"]["annotations"] |= {
        keys.ANN_CHECKPOINT_STATUS: "completed",
        keys.ANN_MANIFEST_DIGEST: "blake3:" + "0" * 64,
        keys.ANN_ARTIFACT_SIZE: "12",
    }
    job["status"] = {"conditions": [{"type": "Complete", "status": "True"}], "succeeded": 1}
    done = planned(run("plan", creating, "-o", "json", "--now", NOW))
    (after,) = by_kind(done, "DynamoCheckpoint")
    assert ("Ready", NOW, 12) == tuple(after["status"][key] for key in ("phase", "createdAt", "size"))


def test_plan_names_a_device_that_is_refused(run):
    obj = checkpoint(pod_template=template(container(resources={"limits": {"gpu.intel.com/xe": "1"}})))
    pending = planned(run("plan", [obj], "-o", "json", "--now", NOW))["objects"]
    (failed,) = planned(run("plan", pending, "-o", "json", "--now", NOW))["objects"]
    assert "Failed" == failed["status"]["phase"]
    assert "resources.limits[gpu.intel.com/xe]: Intel GPUs are not captured" in failed["status"]["message"]


def test_plan_shows_a_diff_and_says_when_there_is_none(run):
    changed = run("plan", [checkpoint()])
    assert 0 == changed.exit_code
    assert "change DynamoCheckpoint/ns/qwen" in changed.stdout
    assert "+  phase: Pending" in changed.stdout
    assert "no change" in run("plan", [pod() | {"metadata": {"name": "x"}}]).stdout


def test_plan_leaves_other_objects_alone(run):
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}}
    document = planned(run("plan", [node, checkpoint()], "-o", "json"))
    assert node in document["objects"]


@pytest.mark.parametrize(
    ("now", "message"),
    [
        pytest.param("soon", "not RFC 3339", id="not-a-time"),
        pytest.param("2026-01-29T10:05:00", "no time zone", id="no-zone"),
    ],
)
def test_plan_wants_a_time(run, now, message):
    result = run("plan", [], "--now", now)
    assert 2 == result.exit_code
    assert message in result.stderr


def test_times_in_yaml_stay_text_and_json_streams_are_read(run):
    text = "kind: Pod\nmetadata: {name: x, creationTimestamp: 2026-01-29T10:05:00Z}\n"
    (obj,) = planned(run("plan", [], "-o", "json", text=text))["objects"]
    assert NOW == obj["metadata"]["creationTimestamp"]
    stream = json.dumps(checkpoint("a")) + "\n" + json.dumps(checkpoint("b"))
    assert 2 == len(planned(run("plan", [], "-o", "json", text=stream))["objects"])


def test_the_overview_imports_nothing_heavy():
    """``--help`` has to come at once, so only click is loaded."""
    code = (
        "import sys; from snapshotctl.__main__ import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "print({'pydantic', 'yaml', 'kubernetes', 'aiohttp', 'orjson'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "set()" == done.stdout.splitlines()[-1]
    assert all(verb in done.stdout for verb in VERBS)


HELP = {
    "adopt": "--timeout",
    "admit": "--objects",
    "checkpoint": "--ready-signal",
    "completion": "bash|zsh|fish",
    "describe": "what to do next",
    "doctor": "controller, webhook, agents",
    "get": "--all-namespaces",
    "help": "VERB",
    "placeholder": "--manifest",
    "plan": "--objects",
    "preflight": "--container",
    "restore": "--checkpoint-id",
    "tree": "--all-namespaces",
    "wake": "Let the parked worker",
    "why": "--kube-context",
}


@pytest.mark.parametrize(("verb", "word"), HELP.items())
def test_every_verb_has_help(verb, word):
    result = CliRunner().invoke(main, [verb, "--help"])
    assert 0 == result.exit_code
    assert word in result.stdout


def test_every_verb_is_tested_for_help():
    assert HELP.keys() == set(VERBS)


def test_help_of_a_verb_imports_nothing_heavy():
    """Each is loaded by completion, so it has to come at once too."""
    code = (
        "import sys; from snapshotctl.__main__ import VERBS, main\n"
        "for verb in VERBS:\n"
        "    try: main([verb, '--help'])\n"
        "    except SystemExit: pass\n"
        "print({'pydantic', 'yaml', 'kubernetes', 'aiohttp', 'orjson', 'rich'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "set()" == done.stdout.splitlines()[-1]


def test_the_plugin_of_kubectl_is_the_same_command(tmp_path):
    """What kubectl finds is the program ``kubectl-snapshot``, and help calls it what was typed."""
    root = Path(__file__).parents[3]
    scripts = tomllib.loads((root / "pyproject.toml").read_text())["project"]["scripts"]
    assert scripts["snapshotctl"] == scripts["kubectl-snapshot"]
    link = tmp_path / "kubectl-snapshot"
    link.write_text(f"#!{sys.executable}\nfrom snapshotctl.__main__ import main\nmain()\n")
    link.chmod(0o755)
    done = subprocess.run(
        [link, "why", "--help"], capture_output=True, text=True, check=True, env={"PYTHONPATH": str(root)}
    )
    assert "Usage: kubectl snapshot why" in done.stdout


@pytest.mark.parametrize("shell", [pytest.param(each, id=each) for each in ("bash", "zsh", "fish")])
def test_completion_is_a_script_for_the_shell(shell):
    result = CliRunner().invoke(main, ["completion", shell], prog_name="snapshotctl")

    assert 0 == result.exit_code
    assert "_SNAPSHOTCTL_COMPLETE" in result.stdout


def test_completion_knows_its_shells():
    result = CliRunner().invoke(main, ["completion", "tcsh"])

    assert 2 == result.exit_code
    assert "'bash', 'zsh', 'fish'" in result.stderr
