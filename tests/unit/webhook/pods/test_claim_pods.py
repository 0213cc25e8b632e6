"""A pod that would mount a claim that is not there is left as it is: shaped or held, it would never start."""

import copy

import jsonpatch
import pytest

from contract.api import keys
from contract.api.states import Admission
from contract.api.volume_claims import ClaimState
from contract.config.values import load_values
from tests.support.builders.objects import ID, checkpoint, opted_in, ready, request
from tests.support.builders.pods import auto_pod, checkpoint_of, stamp_of
from webhook.decide import decide

WAIT = {keys.ANN_STARTUP_POLICY: "WaitForCheckpoint"}
MADE = "storage: {accessMode: podMount}"
OWN = "storage: {accessMode: podMount, pvc: {create: false, name: models}}"
UNAVAILABLE = Admission.VOLUME_CLAIM_UNAVAILABLE
IN_THE_WAY = [state for state in ClaimState if state.in_the_way]


def ask(obj, *stored, claim, text=MADE):
    found = {item["metadata"]["name"]: item for item in stored}
    asked = []

    def look_at(namespace):
        asked.append(namespace)
        return claim

    decision = decide(request(obj), lambda _, name: found.get(name), load_values(text), look_at)
    assert asked in ([], ["ns"])
    return decision


def patched(obj, decision):
    return jsonpatch.JsonPatch(copy.deepcopy(list(decision.operations))).apply(obj)


def said(reason, message, **status):
    """A checkpoint with the controller's word on its storage."""
    entry = {"type": "StorageReady", "status": "False", "reason": reason, "message": message}
    return checkpoint(status={"checkpointID": ID, "conditions": [entry], **status})


@pytest.mark.parametrize("text", [pytest.param(MADE, id="made"), pytest.param(OWN, id="own")])
@pytest.mark.parametrize("state", IN_THE_WAY)
def test_a_ready_checkpoint_without_its_claim_is_no_source(state, text):
    decision = ask(opted_in(), ready(), claim=state, text=text)
    assert UNAVAILABLE == decision.code
    assert f"PersistentVolumeClaim ns/{load_values(text).storage.pvc.claim_name} " in decision.message
    result = patched(opted_in(), decision)
    assert opted_in()["spec"] == result["spec"]
    assert UNAVAILABLE == result["metadata"]["annotations"][keys.ANN_ADMISSION]


@pytest.mark.parametrize("state", [ClaimState.THERE, ClaimState.UNKNOWN])
def test_where_nothing_is_known_to_be_wrong_pods_are_restored(state):
    assert Admission.RESTORE_SHAPED == ask(opted_in(), ready(), claim=state).code


def test_the_claim_as_it_is_goes_before_what_the_controller_said_of_it():
    stored = said("VolumeClaimMissing", "is not there any more", phase="Ready")
    assert Admission.RESTORE_SHAPED == ask(opted_in(), stored, claim=ClaimState.THERE).code


@pytest.mark.parametrize("policy", [{}, WAIT], ids=["immediate", "wait"])
def test_where_nobody_could_look_the_controllers_word_counts(policy):
    stored = said("VolumeClaimMissing", "claim ns/models is gone", phase="Ready")
    decision = ask(opted_in(annotations=policy), stored, claim=ClaimState.UNKNOWN)
    assert UNAVAILABLE == decision.code
    assert "claim ns/models is gone" in decision.message


def test_that_the_storage_values_changed_keeps_nobody_from_starting():
    stored = said("StorageChanged", "the artifact is elsewhere", phase="Ready")
    assert Admission.RESTORE_SHAPED == ask(opted_in(), stored, claim=ClaimState.UNKNOWN).code


@pytest.mark.parametrize("state", ClaimState)
def test_agent_mount_asks_for_no_claim(state):
    assert Admission.RESTORE_SHAPED == ask(opted_in(), ready(), claim=state, text="").code


PENDING = checkpoint(status={"phase": "Pending", "checkpointID": ID})


@pytest.mark.parametrize(
    ("code", "stored", "claim", "text"),
    [
        pytest.param(Admission.HELD, PENDING, ClaimState.THERE, OWN, id="there"),
        pytest.param(Admission.HELD, PENDING, ClaimState.UNKNOWN, OWN, id="unknown"),
        pytest.param(UNAVAILABLE, PENDING, ClaimState.MISSING, OWN, id="nobody-makes-it"),
        pytest.param(Admission.HELD, PENDING, ClaimState.MISSING, MADE, id="the-controller-makes-it"),
        pytest.param(UNAVAILABLE, PENDING, ClaimState.DELETING, MADE, id="being-deleted"),
        pytest.param(UNAVAILABLE, PENDING, ClaimState.LOST, MADE, id="lost"),
        pytest.param(
            UNAVAILABLE, said("VolumeClaimRefused", "exceeded quota"), ClaimState.MISSING, MADE, id="may-not-be-made"
        ),
        pytest.param(
            UNAVAILABLE,
            said("VolumeClaimRefused", "exceeded quota"),
            ClaimState.UNKNOWN,
            MADE,
            id="says-the-controller",
        ),
        pytest.param(
            Admission.HELD, said("VolumeClaimMissing", "not yet"), ClaimState.THERE, OWN, id="appeared-just-now"
        ),
    ],
)
def test_who_is_held_mounts_a_claim_that_is_there_or_will_be(code, stored, claim, text):
    obj = opted_in(annotations=WAIT)
    decision = ask(obj, stored, claim=claim, text=text)
    assert code == decision.code
    assert (code == Admission.HELD) == ("schedulingGates" in patched(obj, decision)["spec"])


@pytest.mark.parametrize(
    ("words", "stored", "text"),
    [
        pytest.param("set the chart value storage.pvc.create=true", PENDING, OWN, id="not-made"),
        pytest.param("exceeded quota", said("VolumeClaimRefused", "exceeded quota"), MADE, id="refused"),
    ],
)
def test_a_pod_that_is_not_held_is_told_what_to_do(words, stored, text):
    assert words in ask(opted_in(annotations=WAIT), stored, claim=ClaimState.MISSING, text=text).message


@pytest.mark.parametrize("state", IN_THE_WAY)
def test_the_first_automatic_pod_asks_for_its_checkpoint_all_the_same(state):
    obj = auto_pod(annotations=WAIT)
    decision = ask(obj, claim=state, text=OWN)
    assert Admission.CHECKPOINT_REQUESTED == decision.code
    assert "cannot be held for that: PersistentVolumeClaim ns/models " in decision.message
    result = patched(obj, decision)
    assert obj["spec"] == result["spec"]
    assert stamp_of(obj) == result["metadata"]["annotations"][keys.ANN_TEMPLATE_HASH]


def test_the_next_automatic_pod_is_told_of_the_claim():
    obj = auto_pod(annotations=WAIT)
    decision = ask(obj, checkpoint_of(obj, phase="Pending"), claim=ClaimState.MISSING, text=OWN)
    assert UNAVAILABLE == decision.code
    assert obj["spec"] == patched(obj, decision)["spec"]


@pytest.mark.parametrize(
    ("code", "obj", "stored"),
    [
        pytest.param(Admission.CHECKPOINT_NOT_READY, opted_in(), PENDING, id="not-ready"),
        pytest.param(Admission.CHECKPOINT_FAILED, opted_in(), checkpoint(status={"phase": "Failed"}), id="failed"),
        pytest.param(
            Admission.TARGETS_INVALID, opted_in(annotations={keys.ANN_TARGET_CONTAINERS: "x"}), ready(), id="x"
        ),
    ],
)
def test_what_keeps_a_pod_from_being_shaped_anyway_is_told_first(code, obj, stored):
    assert code == ask(obj, stored, claim=ClaimState.MISSING, text=OWN).code
