"""``snapshotctl why`` names all that keeps a pod from being restored, and ``plan`` the same of a checkpoint."""

import json

import pytest
import yaml
from click.testing import CliRunner

from contract.api import keys
from contract.api.states import Admission
from snapshotctl.__main__ import main
from snapshotctl.explain.answers import Facts, Stage, lived
from snapshotctl.view.answer_text import as_text
from tests.support.builders.devices import claim_template, claiming, exactly
from tests.support.builders.objects import checkpoint, container, opted_in, ready
from webhook.checks import Refusal
from webhook.decide import Decision

GPU = {"limits": {"nvidia.com/gpu": "1"}}
OTHER = {"name": "other", "namespace": "ns"}


@pytest.fixture
def run(tmp_path):
    def invoke(verb, values, *arguments, **files):
        for name, obj in {"values": yaml.safe_load(values), **files}.items():
            (tmp_path / name).write_text(yaml.safe_dump(obj))
        paths = [str(tmp_path / each[1:]) if each.startswith("@") else each for each in arguments]
        return CliRunner().invoke(main, [verb, *paths, "--values", str(tmp_path / "values")])

    return invoke


def manifest(**fields):
    obj = opted_in(container(image="other:1", resources=GPU), **fields)
    return obj | {"metadata": obj["metadata"] | {"name": "web"}}


WHY = ("-f", "@pod", "--objects", "@objects", "-n", "ns")


@pytest.mark.parametrize(
    ("codes", "stored", "fields"),
    [
        pytest.param(["pod-unsupported", "image-mismatch"], ready(), {"hostPID": True}, id="two"),
        pytest.param(["checkpoint-not-ready", "image-mismatch"], checkpoint(), {}, id="not-ready-yet"),
        pytest.param(["checkpoint-not-found"], ready("other"), {}, id="one"),
    ],
)
def test_every_reason_is_shown_the_deciding_one_first(run, codes, stored, fields):
    files = {"pod": manifest(**fields), "objects": stored}
    said = run("why", "{}", *WHY, "-o", "json", **files)
    text = " ".join(run("why", "{}", *WHY, **files).stdout.split())

    (answer,) = json.loads(said.stdout)["answers"]
    assert (3, codes[0], codes[1:]) == (
        said.exit_code,
        answer["code"],
        [each["code"] for each in answer["alsoRefused"]],
    )
    assert all(each["message"] and each["remedy"] and each["link"] for each in answer["alsoRefused"])
    assert f"starts cold: {codes[0]}" in text
    assert all(f"then also {code}: " in text for code in codes[1:])
    assert len(codes) - 1 == text.count("then also")


def test_a_pod_that_restores_has_no_further_reason(run):
    obj = opted_in()
    obj["metadata"]["name"] = "web"
    said = run("why", "{}", *WHY, "-o", "json", pod=obj, objects=ready())

    (answer,) = json.loads(said.stdout)["answers"]
    assert ("restore-shaped", []) == (answer["code"], answer["alsoRefused"])


MISMATCH = Refusal(Admission.IMAGE_MISMATCH, "has image other:1")
UNSUPPORTED = Refusal(Admission.POD_UNSUPPORTED, "spec.hostPID must not be true")


@pytest.mark.parametrize(
    ("codes", "unasked"),
    [
        pytest.param(["image-mismatch"], None, id="asked"),
        pytest.param(["pod-unsupported", "image-mismatch"], "another namespace", id="never-asked"),
    ],
)
def test_a_live_pod_shows_what_its_successor_would_meet(codes, unasked):
    obj = opted_in(annotations={keys.ANN_ADMISSION: "pod-unsupported"})
    obj["metadata"]["name"] = "web"
    facts = Facts(obj, now=Decision(*UNSUPPORTED), unasked=unasked, refusals=(UNSUPPORTED, MISMATCH))
    answer = lived(facts)

    assert codes == [each.code for each in answer.also_refused]
    assert {Stage.NOW} == {each.stage for each in answer.also_refused}
    assert "then also image-mismatch: has image other:1" in " ".join(as_text([answer], ()).split())


RESOURCES, OF_POD = claiming()
TWO = claim_template("gpus", exactly(count=2))
MIG = claim_template("gpus", exactly(deviceClassName="mig.nvidia.com"))


@pytest.mark.parametrize(
    ("words", "stored"),
    [
        pytest.param([], [TWO], id="there"),
        pytest.param(["ResourceClaimTemplate ns/gpus does not exist"], [TWO | {"metadata": OTHER}], id="missing"),
        pytest.param(["ResourceClaimTemplate ns/gpus could not be read"], [], id="not-in-the-file"),
        pytest.param(["ns/gpus asks for devices of class mig.nvidia.com: MIG devices are not"], [MIG], id="refused"),
    ],
)
def test_missing_claim_templates_are_said_beside_the_decision(tmp_path, words, stored):
    obj = opted_in(container(command=[], resources=RESOURCES), **OF_POD)
    obj["metadata"]["name"] = "web"
    for name, text in (
        ("values", "{}"),
        ("pod", yaml.safe_dump(obj)),
        ("all", yaml.safe_dump_all([ready(), *stored])),
    ):
        (tmp_path / name).write_text(text)
    paths = [str(tmp_path / name) for name in ("pod", "all", "values")]
    line = ["why", "-f", paths[0], "--objects", paths[1], "--values", paths[2], "-n", "ns", "-o", "json"]
    (answer,) = json.loads(CliRunner().invoke(main, line).stdout)["answers"]

    assert "restore-shaped" == answer["code"]
    notes = [note for note in answer["notes"] if "command differ" not in note]
    assert len(words) == len(notes)
    assert all(word in note for word, note in zip(words, notes, strict=True))
