"""Pods that become placeholders at admission: what they get, and what keeps them from it."""

import jsonpatch
import pytest

from contract.api import keys
from contract.api.states import Admission
from contract.api.volume_claims import ClaimState
from contract.config.values import load_values
from contract.pods.placeholder import waiting_containers
from contract.pods.unshape import unshaped
from tests.support.builders.objects import IMAGE, checkpoint, container, copied, opted_in, pod, ready, request
from webhook.decide import decide

VALUES = load_values("")
WAIT = {keys.ANN_STANDBY: keys.STANDBY_WAITS}
IN_POD = "storage: {accessMode: podMount}"
INJECTS = "placeholder: {mode: inject}"
STOCK = "example.test/stock:1"


def nameless(*containers, annotations=None, labels=None, **spec):
    """Return a pod that is to wait, with the shape of no checkpoint in particular."""
    labels = {"app": "web", keys.LABEL_RESTORE: keys.RESTORE_BY_NAME} | (labels or {})
    return pod(*containers, labels=labels, annotations=WAIT | (annotations or {}), **spec)


def named(*containers, **parts):
    """Return one that has the shape of checkpoint qwen."""
    return opted_in(*containers, annotations=WAIT | parts.pop("annotations", {}), **parts)


def ask(obj, *stored, values="", claim=ClaimState.UNKNOWN, **fields):
    found = {each["metadata"]["name"]: each for each in stored}
    return decide(request(obj, **fields), lambda _, name: found.get(name), load_values(values), lambda _: claim)


def shaped(obj, *stored, **more):
    decision = ask(obj, *stored, **more)
    assert Admission.PLACEHOLDER == decision.code
    return jsonpatch.JsonPatch(copied(decision.operations)).apply(copied(obj))


@pytest.mark.parametrize(
    ("obj", "stored"),
    [
        pytest.param(nameless(), [], id="no checkpoint"),
        pytest.param(named(), [ready()], id="like one that is Ready"),
        pytest.param(named(), [checkpoint()], id="like one that is not captured yet"),
    ],
)
def test_it_waits_and_names_no_checkpoint(obj, stored):
    found = shaped(obj, *stored)
    metadata, main = found["metadata"], found["spec"]["containers"][0]

    assert ("main",) == waiting_containers(found)
    assert [keys.STANDBY, keys.STANDBY_WAIT, "--", "python3", "-m", "worker"] == main["command"]
    assert {keys.ENV_CONTROL_DIR, keys.ENV_RESTORE_STANDBY, keys.ENV_STANDBY_RESTART_POLICY} == {
        each["name"] for each in main["env"]
    }
    assert {"app": "web", keys.LABEL_RESTORE: "enabled", keys.LABEL_IS_RESTORE_TARGET: "true"} == metadata["labels"]
    assert {keys.ANN_CHECKPOINT, keys.ANN_ARTIFACT_VERSION}.isdisjoint(metadata["annotations"])
    assert "schedulingGates" not in found["spec"]
    assert {keys.CONTROL_VOLUME, keys.SHARED_MEMORY_VOLUME} == {each["name"] for each in found["spec"]["volumes"]}


def test_what_a_live_pod_brought_of_an_earlier_life_is_taken_off():
    notes = {keys.ANN_CHECKPOINT: "old", keys.ANN_ARTIFACT_VERSION: "3", keys.ANN_RESTORE_STATUS_PREFIX + "main": "x"}
    found = shaped(nameless(annotations=notes))["metadata"]["annotations"]

    assert notes.keys().isdisjoint(found)


def test_its_wish_stays_and_says_whose_shape_it_has():
    assert "qwen" == shaped(named(), ready())["metadata"]["annotations"][keys.ANN_CHECKPOINT_NAME]


def test_a_stock_image_gets_what_its_checkpoint_says():
    status = ready()["status"] | {"image": {"reference": STOCK, "injected": True, "entrypoint": ["/run"]}}
    stock = {"name": "main", "image": STOCK}
    found = shaped(named(stock), ready(status=status))

    assert [keys.STANDBY, keys.STANDBY_WAIT, "--", "/run"] == found["spec"]["containers"][0]["command"]
    assert [keys.TOOLS_VOLUME] == [each["name"] for each in found["spec"]["initContainers"]]


def test_a_command_that_is_standbys_already_waits_too():
    """A manifest copied from a pod that was made to restore at its start."""
    copy = container(command=[keys.STANDBY, "--image-entrypoint", "--"])

    assert [keys.STANDBY, keys.STANDBY_WAIT, "--image-entrypoint", "--"] == (
        shaped(nameless(copy))["spec"]["containers"][0]["command"]
    )


@pytest.mark.parametrize(
    ("expected", "words", "obj", "more"),
    [
        pytest.param(
            Admission.STANDBY_INVALID,
            "is 'wait'; it must be Wait or Park",
            named(annotations={keys.ANN_STANDBY: "wait"}),
            {},
            id="misspelt",
        ),
        pytest.param(
            Admission.STANDBY_INVALID,
            "nvidia.com/snapshot-restore=enabled",
            nameless(labels={keys.LABEL_RESTORE: "auto"}),
            {},
            id="automatic",
        ),
        pytest.param(
            Admission.CHECKPOINT_NOT_FOUND, "does not exist", named(name="gone"), {}, id="like one that does not exist"
        ),
        pytest.param(
            Admission.IMAGE_MISMATCH,
            "other:1",
            named(container(image="other:1")),
            {},
            id="another image than its model",
        ),
        pytest.param(
            Admission.CHECKPOINT_ID_UNAVAILABLE,
            "checkpoint id",
            named(name="odd"),
            {},
            id="like one whose id is a path",
        ),
        pytest.param(Admission.POD_UNSUPPORTED, "spec.hostPID", nameless(hostPID=True), {}, id="cannot be restored"),
        pytest.param(
            Admission.TARGETS_INVALID,
            "not in the pod",
            nameless(annotations={keys.ANN_TARGET_CONTAINERS: "gone"}),
            {},
            id="no such container",
        ),
        pytest.param(
            Admission.VOLUME_CLAIM_UNAVAILABLE,
            "would not start at all",
            nameless(),
            {"values": IN_POD, "claim": ClaimState.MISSING},
            id="no volume to mount",
        ),
        pytest.param(
            Admission.ENTRYPOINT_UNKNOWN,
            "write the command into the pod template",
            nameless({"name": "main", "image": STOCK}),
            {"values": INJECTS},
            id="nothing says what a stock image runs",
        ),
    ],
)
def test_what_is_no_placeholder_says_why(expected, words, obj, more):
    decision = ask(obj, ready(), checkpoint("odd", status={"checkpointID": "../x"}), **more)

    assert expected == decision.code
    assert words in decision.message


@pytest.mark.parametrize("obj", [pytest.param(nameless(), id="no checkpoint"), pytest.param(named(), id="like one")])
def test_asked_again_it_is_left_as_it_is(obj):
    again = ask(shaped(obj, ready()), ready())

    assert (Admission.ALREADY_SHAPED, ()) == (again.code, again.operations)


def test_the_shape_is_taken_back_if_another_webhook_has_made_it_unfit():
    changed = shaped(named(), ready())
    changed["spec"]["hostNetwork"] = True
    decision = ask(changed, ready())
    found = jsonpatch.JsonPatch(copied(decision.operations)).apply(copied(changed))

    assert Admission.POD_UNSUPPORTED == decision.code
    assert () == waiting_containers(found)
    assert IMAGE == found["spec"]["containers"][0]["image"]


def test_the_shape_leaves_nothing_behind():
    before = named()

    assert before["spec"]["containers"] == unshaped(shaped(before, ready()))["spec"]["containers"]
