"""The state of a claim, and which of the controller's words are about it."""

import pytest

from contract.api.states import CheckpointReason
from contract.api.volume_claims import ClaimState, claim_problem, claim_state, said_of_claim, unknown


def claim(phase="Bound", **metadata):
    return {"metadata": {"name": "snapshot-pvc", "namespace": "ns", **metadata}, "status": {"phase": phase}}


@pytest.mark.parametrize(
    ("expected", "found"),
    [
        pytest.param(ClaimState.MISSING, None, id="none"),
        pytest.param(ClaimState.THERE, claim(), id="bound"),
        pytest.param(ClaimState.THERE, claim("Pending"), id="waits-for-its-first-pod"),
        pytest.param(ClaimState.THERE, {"metadata": {}}, id="no-status-yet"),
        pytest.param(ClaimState.LOST, claim("Lost"), id="lost"),
        pytest.param(ClaimState.DELETING, claim(deletionTimestamp="2026-01-31T10:00:00Z"), id="going"),
        pytest.param(ClaimState.DELETING, claim("Lost", deletionTimestamp="2026-01-31T10:00:00Z"), id="lost-and-going"),
    ],
)
def test_how_it_stands(expected, found):
    assert expected == claim_state(found)


@pytest.mark.parametrize("state", ClaimState)
def test_what_is_in_the_way_has_words(state):
    words = claim_problem(state, "ns/models")
    assert state.in_the_way == words.startswith("PersistentVolumeClaim ns/models ")
    assert state.in_the_way == bool(words)


def test_where_nobody_looks_nothing_is_in_the_way():
    assert not unknown("ns").in_the_way


@pytest.mark.parametrize("reason", CheckpointReason)
def test_which_reasons_speak_of_the_claim(reason):
    entry = {"type": "StorageReady", "status": "False", "reason": reason.value, "message": "m"}
    words = said_of_claim({"status": {"conditions": [entry]}})
    assert ("m" if reason.name.startswith("VOLUME_CLAIM_") else "") == words


@pytest.mark.parametrize(
    "checkpoint",
    [
        pytest.param(None, id="none"),
        pytest.param({}, id="no-status"),
        pytest.param(
            {"status": {"conditions": [{"type": "StorageReady", "status": "True", "reason": "VolumeClaimFound"}]}},
            id="found",
        ),
        pytest.param(
            {"status": {"conditions": [{"type": "Ready", "status": "False", "reason": "VolumeClaimMissing"}]}},
            id="another-condition",
        ),
    ],
)
def test_what_says_nothing_against_it(checkpoint):
    assert not said_of_claim(checkpoint)
