"""The admission table: its order is that of docs/reasons.md, all of it can be asked, a target is found once."""

import re
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contract.api import keys
from contract.api.states import Admission, ConditionType
from contract.config.values import load_values
from tests.support.builders.objects import checkpoint, container, graph_pod, opted_in, pod, ready, request
from tests.support.builders.pods import auto_pod, checkpoint_of, random_pod
from webhook.checks import CHECKS
from webhook.decide import decide, refusals

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "reasons.md").read_text()
VALUES = load_values("")
NO_ROW = {
    Admission.RESTORE_SHAPED,
    Admission.HELD,
    Admission.CAPTURABLE,
    Admission.PLACEHOLDER,
    Admission.WEBHOOK_UNREACHABLE,
}
"""Not refusals of the webhook."""
NAME_OF_POD = {"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}


def test_the_page_has_the_order_of_the_table():
    """A code that several rows have is explained at the first of them."""
    explained = [code for code in re.findall(r"^## (\S+)$", PAGE, re.MULTILINE) if code not in NO_ROW]
    assert explained == list(dict.fromkeys(code.value for code, _ in CHECKS))


def test_every_refusal_has_a_row():
    assert set(Admission) - NO_ROW == {code for code, _ in CHECKS}


GPU = {"limits": {"nvidia.com/gpu": "1"}}
STOCK = {"name": "main", "image": "stock:1", "readinessProbe": {"exec": {"command": ["true"]}}}
WAIT = {keys.ANN_STARTUP_POLICY: "WaitForCheckpoint"}
BAD_TARGET = {keys.ANN_TARGET_CONTAINERS: "x"}
BAD_STORAGE = "storage: {pvc: {basePath: /a/../b}}"


def failing(status, phase="Ready"):
    """A checkpoint whose restores fail, or did."""
    found = ready()
    found["status"] |= {"phase": phase, "conditions": [{"type": ConditionType.RESTORES_FAILING, "status": status}]}
    return found


@pytest.mark.parametrize(
    ("codes", "obj", "stored", "text"),
    [
        pytest.param("", opted_in(), [ready()], "", id="restored"),
        pytest.param("", auto_pod(annotations=WAIT), [], "", id="held"),
        pytest.param("not-opted-in", pod(container(resources=GPU), hostPID=True), [], BAD_STORAGE, id="asks-nothing"),
        pytest.param("checkpoint-not-found", opted_in(), [], "", id="one"),
        pytest.param("restores-failing", opted_in(), [failing("True")], "", id="restores-fail"),
        pytest.param("", opted_in(), [failing("False")], "", id="restores-fail-no-more"),
        pytest.param("checkpoint-not-ready", opted_in(), [failing("True", "Creating")], "", id="captured-again"),
        pytest.param(
            "checkpoint-not-ready pod-unsupported image-mismatch",
            opted_in(container(image="other:1", resources=GPU), hostPID=True),
            [checkpoint()],
            "",
            id="several",
        ),
        pytest.param(
            "checkpoint-disabled namespace-excluded checkpoint-not-found",
            opted_in(),
            [],
            "{checkpoint: {enabled: false}, webhook: {excludedNamespaces: [ns]}}",
            id="of-the-release",
        ),
        pytest.param(
            "checkpoint-not-found targets-invalid storage-unavailable pod-unsupported",
            opted_in(annotations=BAD_TARGET, hostPID=True),
            [],
            BAD_STORAGE,
            id="what-needs-the-checkpoint-is-left-out",
        ),
        pytest.param(
            "checkpoint-name-missing targets-invalid",
            pod(labels={keys.LABEL_RESTORE: "enabled"}, annotations=BAD_TARGET),
            [],
            "",
            id="what-needs-a-name-is-left-out",
        ),
        pytest.param(
            "targets-invalid pod-unsupported",
            auto_pod(annotations=BAD_TARGET, hostPID=True),
            [],
            "",
            id="what-needs-a-target-is-left-out",
        ),
        pytest.param(
            "per-pod-identity no-ready-signal checkpoint-requested",
            auto_pod(container(env=[NAME_OF_POD], resources=GPU)),
            [],
            "",
            id="of-a-template",
        ),
        pytest.param(
            "accelerator-unsupported no-ready-signal checkpoint-requested",
            auto_pod(container(resources={"limits": {"habana.ai/gaudi": "8"}})),
            [],
            "",
            id="of-another-vendor",
        ),
        pytest.param("checkpoint-requested", auto_pod(STOCK), [], "", id="its-capture-notes-what-the-image-runs"),
    ],
)
def test_all_that_keeps_a_pod_from_being_restored(codes, obj, stored, text):
    found = {item["metadata"]["name"]: item for item in stored}
    asked = (request(obj), lambda _, name: found.get(name), load_values(text))
    assert codes.split() == [each.code for each in refusals(*asked)]


@settings(max_examples=500, deadline=None)
@given(st.integers(0, 2**64), st.sampled_from(["", BAD_STORAGE, "storage: {accessMode: podMount}"]))
def test_the_first_of_all_is_the_decision(seed, text):
    chance = Random(seed)
    obj = random_pod(chance)
    phase = chance.choice(["Ready", "Pending", "Failed", None])
    stored = [checkpoint("qwen", status={"phase": phase}), checkpoint_of(obj, phase=phase)] if phase else []
    found = {item["metadata"]["name"]: item for item in stored}
    asked = (request(obj), lambda _, name: found.get(name), load_values(text))

    decision, all_of_them = decide(*asked), refusals(*asked)

    shaped = decision.code in (Admission.RESTORE_SHAPED, Admission.HELD, Admission.PLACEHOLDER)
    assert ([] if shaped else [(decision.code, decision.message)]) == all_of_them[:1]
    assert len(all_of_them) == len(set(all_of_them))


class Containers(list):
    """A pod's containers, which count how often they are gone through."""

    searches = 0

    def __iter__(self):
        self.searches += 1
        return super().__iter__()

    def index(self, *_):
        raise AssertionError("the names were read already")


SIDECAR = container("proxy")


@pytest.mark.parametrize(
    ("code", "obj", "stored"),
    [
        pytest.param(Admission.RESTORE_SHAPED, opted_in(), [ready()], id="by-name"),
        pytest.param(Admission.RESTORE_SHAPED, opted_in(container(), SIDECAR), [ready()], id="with-a-sidecar"),
        pytest.param(Admission.RESTORE_SHAPED, graph_pod(), [ready()], id="graph"),
        pytest.param(Admission.RESTORE_SHAPED, auto_pod(), [checkpoint_of(auto_pod())], id="automatic"),
        pytest.param(Admission.HELD, auto_pod(annotations=WAIT), [], id="held"),
        pytest.param(Admission.CHECKPOINT_REQUESTED, auto_pod(), [], id="requested"),
        pytest.param(Admission.CHECKPOINT_NOT_READY, opted_in(), [checkpoint()], id="refused"),
        pytest.param(Admission.IMAGE_MISMATCH, opted_in(container(image="other:1")), [ready()], id="another-image"),
        pytest.param(
            Admission.TARGETS_INVALID, opted_in(annotations={keys.ANN_TARGET_CONTAINERS: "x"}), [ready()], id="none"
        ),
    ],
)
def test_the_target_is_searched_for_once(code, obj, stored):
    containers = obj["spec"]["containers"] = Containers(obj["spec"]["containers"])
    found = {item["metadata"]["name"]: item for item in stored}
    assert code == decide(request(obj), lambda _, name: found.get(name), VALUES).code
    assert containers.searches <= 1
