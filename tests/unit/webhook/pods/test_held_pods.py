import copy

import jsonpatch
import pytest

from contract.api import keys
from contract.api.states import Admission
from contract.config.values import load_values
from contract.pods.template_hash import automatic_id
from tests.support.builders.objects import ID, checkpoint, graph_pod, opted_in, ready, request
from tests.support.builders.pods import auto_pod, checkpoint_of, name_of, stamp_of, worker
from webhook.decide import decide

WAIT = {keys.ANN_STARTUP_POLICY: "WaitForCheckpoint"}
GATE = {"name": "nvidia.com/wait-for-checkpoint"}


def ask(obj, *stored, text=""):
    found = {item["metadata"]["name"]: item for item in stored}
    return decide(request(obj), lambda _, name: found.get(name), load_values(text))


def patched(obj, decision):
    return jsonpatch.JsonPatch(copy.deepcopy(list(decision.operations))).apply(obj)


def pending(name="qwen", phase="Pending"):
    return checkpoint(name, status={"phase": phase, "checkpointID": ID})


def is_held(obj):
    return (
        GATE in obj["spec"].get("schedulingGates", [])
        and "held" == obj["metadata"]["annotations"][keys.ANN_ADMISSION]
        and keys.STANDBY == obj["spec"]["containers"][0]["command"][0]
    )


@pytest.mark.parametrize(
    ("obj", "stored"),
    [
        pytest.param(opted_in(annotations=WAIT), [pending()], id="pending"),
        pytest.param(opted_in(annotations=WAIT), [pending(phase="Creating")], id="creating"),
        pytest.param(opted_in(annotations=WAIT), [checkpoint()], id="no-status-yet"),
        pytest.param(auto_pod(annotations=WAIT), [], id="automatic-not-there"),
        pytest.param(
            auto_pod(annotations=WAIT), [checkpoint_of(auto_pod(), phase="Creating")], id="automatic-creating"
        ),
    ],
)
def test_a_pod_that_would_wait_is_shaped_and_gated(obj, stored):
    decision = ask(obj, *stored)
    assert Admission.HELD == decision.code
    assert is_held(patched(obj, decision))
    (warning,) = decision.warnings
    assert "nvidia.com/snapshot-admission=held: this pod waits for DynamoCheckpoint" in warning


def test_an_automatic_pod_is_shaped_for_the_checkpoint_that_it_asks_for():
    obj = auto_pod(annotations=WAIT)
    result = patched(obj, ask(obj))
    notes, labels = result["metadata"]["annotations"], result["metadata"]["labels"]
    assert (name_of(obj), stamp_of(obj), "1", "main") == tuple(
        notes[key]
        for key in (keys.ANN_CHECKPOINT, keys.ANN_TEMPLATE_HASH, keys.ANN_ARTIFACT_VERSION, keys.ANN_TARGET_CONTAINERS)
    )
    assert automatic_id("ns", stamp_of(obj)) == labels[keys.LABEL_CHECKPOINT_ID]


def test_a_held_pod_looks_as_it_would_when_restored_at_once():
    """It can be let go as nothing else: of a held pod only image and annotations may change."""
    obj = auto_pod(worker(volumeMounts=[{"name": "c", "mountPath": "/c"}]), annotations=WAIT)
    obj["spec"]["volumes"] = [{"name": "c", "emptyDir": {}}]
    held = patched(obj, ask(obj))
    shaped = patched(obj, ask(obj, checkpoint_of(obj)))
    assert [GATE] == held["spec"].pop("schedulingGates")
    assert shaped["spec"] == held["spec"]
    assert "restore-shaped" == shaped["metadata"]["annotations"].pop(keys.ANN_ADMISSION)
    assert "held" == held["metadata"]["annotations"].pop(keys.ANN_ADMISSION)
    assert shaped["metadata"] == held["metadata"]


def test_the_image_is_mapped_at_once():
    text = "placeholder: {images: {'stock:1': 'built:1'}}"
    obj = auto_pod(worker(image="stock:1"), annotations=WAIT)
    result = patched(obj, ask(obj, text=text))
    assert "built:1" == result["spec"]["containers"][0]["image"]
    assert "stock:1" == result["metadata"]["annotations"]["nvidia.com/snapshot-original-image.main"]


def test_other_gates_stay():
    obj = auto_pod(annotations=WAIT, schedulingGates=[{"name": "quota"}])
    assert [{"name": "quota"}, GATE] == patched(obj, ask(obj))["spec"]["schedulingGates"]


@pytest.mark.parametrize(
    ("text", "said", "code"),
    [
        pytest.param("", None, Admission.CHECKPOINT_NOT_READY, id="usual"),
        pytest.param("startupPolicy: WaitForCheckpoint", None, Admission.HELD, id="chart"),
        pytest.param("startupPolicy: WaitForCheckpoint", "Immediate", Admission.CHECKPOINT_NOT_READY, id="pod-first"),
        pytest.param("", "WaitForCheckpoint", Admission.HELD, id="pod"),
        pytest.param("startupPolicy: WaitForCheckpoint", "soon", Admission.HELD, id="unknown-word"),
    ],
)
def test_the_policy_of_the_chart_and_of_the_pod(text, said, code):
    notes = {keys.ANN_STARTUP_POLICY: said} if said else {}
    assert code == ask(opted_in(annotations=notes), pending(), text=text).code


@pytest.mark.parametrize(
    ("obj", "stored", "code"),
    [
        pytest.param(opted_in(annotations=WAIT, nodeName="n1"), [pending()], Admission.CHECKPOINT_NOT_READY, id="node"),
        pytest.param(auto_pod(annotations=WAIT, nodeName="n1"), [], Admission.CHECKPOINT_REQUESTED, id="auto-node"),
        pytest.param(graph_pod(annotations=WAIT), [pending()], Admission.CHECKPOINT_NOT_READY, id="graph"),
        pytest.param(opted_in(annotations=WAIT), [], Admission.CHECKPOINT_NOT_FOUND, id="by-name-not-there"),
        pytest.param(opted_in(annotations=WAIT), [pending(phase="Failed")], Admission.CHECKPOINT_FAILED, id="failed"),
        pytest.param(
            auto_pod(annotations=WAIT),
            [checkpoint_of(auto_pod(), phase="Failed")],
            Admission.CHECKPOINT_FAILED,
            id="auto-failed",
        ),
    ],
)
def test_who_is_not_held_starts_as_it_is(obj, stored, code):
    decision = ask(obj, *stored)
    assert code == decision.code
    assert obj["spec"] == patched(obj, decision)["spec"]


def test_a_pod_waits_for_the_capture_that_it_has_begun_anew():
    gone = [{"type": "Ready", "status": "False", "reason": "WorkloadGone"}]
    stored = checkpoint_of(auto_pod(), phase="Failed", conditions=gone)

    assert Admission.HELD == ask(auto_pod(annotations=WAIT), stored).code
    assert Admission.CHECKPOINT_NOT_READY == ask(auto_pod(), stored).code


def test_a_ready_checkpoint_holds_nobody():
    decision = ask(opted_in(annotations=WAIT), ready())
    assert Admission.RESTORE_SHAPED == decision.code
    assert "schedulingGates" not in patched(opted_in(annotations=WAIT), decision)["spec"]


STOCK = {"name": "main", "image": "stock:1", "readinessProbe": {"exec": {"command": ["true"]}}}
INJECT = "placeholder: {mode: inject}"


@pytest.mark.parametrize(
    ("stored", "code"),
    [
        # It asks all the same: what the image runs is known after the capture.
        pytest.param([], Admission.CHECKPOINT_REQUESTED, id="not-there"),
        pytest.param([checkpoint_of(auto_pod(STOCK), phase="Creating")], Admission.ENTRYPOINT_UNKNOWN, id="creating"),
    ],
)
@pytest.mark.parametrize("text", ["", INJECT], ids=["default", "inject"])
def test_a_pod_whose_command_is_not_known_yet_cannot_be_held(stored, code, text):
    obj = auto_pod(STOCK, annotations=WAIT)
    decision = ask(obj, *stored, text=text)
    assert code == decision.code
    assert "write the command into the pod template" in decision.message
    result = patched(obj, decision)
    assert obj["spec"] == result["spec"]
    assert stamp_of(obj) == result["metadata"]["annotations"][keys.ANN_TEMPLATE_HASH]


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("placeholder: {images: {'stock:1': 'built:1'}}", id="mapped"),
        pytest.param("placeholder: {images: {'stock:1': 'stock:1'}}", id="a-placeholder"),
        pytest.param("automatic: {inject: false}", id="not-injected"),
    ],
)
@pytest.mark.parametrize("stored", [[], [checkpoint_of(auto_pod(STOCK), phase="Creating")]], ids=["none", "creating"])
def test_a_placeholder_knows_its_command_by_itself(stored, text):
    obj = auto_pod(STOCK, annotations=WAIT)
    decision = ask(obj, *stored, text=text)
    assert Admission.HELD == decision.code
    spec = patched(obj, decision)["spec"]
    assert [keys.STANDBY, "--image-entrypoint", "--"] == spec["containers"][0]["command"]
    assert "initContainers" not in spec


@pytest.mark.parametrize("stored", [[], [checkpoint_of(auto_pod(), phase="Creating")]], ids=["none", "creating"])
def test_a_stock_image_is_held_with_the_tools_that_its_capture_gets(stored):
    obj = auto_pod(annotations=WAIT)
    spec = patched(obj, ask(obj, *stored))["spec"]
    assert ["snapshot-tools"] == [each["name"] for each in spec["initContainers"]]


def test_a_pod_that_waits_for_an_automatic_checkpoint_by_name_is_shaped_as_that_one():
    stored = checkpoint_of(auto_pod(), phase="Creating")
    obj = opted_in(name=stored["metadata"]["name"], annotations=WAIT)
    spec = patched(obj, ask(obj, stored))["spec"]
    assert ["snapshot-tools"] == [each["name"] for each in spec["initContainers"]]
