"""Which volumes are made and removed for which claims."""

from pathlib import Path

import pytest

from cluster import config
from cluster.nodes import provisioner
from cluster.nodes.provisioner import PROVISIONED_BY, PROVISIONER, plan

UID = "0b0a0a0a-1111-2222-3333-444444444444"


def claim(uid=UID, **spec):
    defaults = {
        "accessModes": ["ReadWriteMany"],
        "resources": {"requests": {"storage": "1Gi"}},
        "storageClassName": "standard",
    }
    return {"metadata": {"name": "c", "namespace": "ns", "uid": uid}, "spec": {**defaults, **spec}}


def volume(phase, *, by=PROVISIONER, policy="Delete"):
    return {
        "metadata": {"name": f"pvc-{UID}", "annotations": {PROVISIONED_BY: by}},
        "spec": {"persistentVolumeReclaimPolicy": policy},
        "status": {"phase": phase},
    }


def test_a_waiting_claim_gets_a_volume_bound_to_it():
    made = plan([claim()], [], "/volumes").create

    assert [f"pvc-{UID}"] == [each["metadata"]["name"] for each in made]
    assert {"path": f"/volumes/pvc-{UID}", "type": "Directory"} == made[0]["spec"]["hostPath"]
    assert UID == made[0]["spec"]["claimRef"]["uid"]
    assert ["ReadWriteMany"] == made[0]["spec"]["accessModes"]


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(claim(storageClassName="fast"), id="other-class"),
        pytest.param(claim(volumeName="chosen"), id="bound"),
        pytest.param(claim(selector={}) | {"spec": claim(selector={"a": "b"})["spec"]}, id="selector"),
        pytest.param(claim(volumeMode="Block"), id="block"),
        pytest.param(claim(uid="../../etc"), id="hostile-uid"),
        pytest.param(
            {**claim(), "metadata": {**claim()["metadata"], "deletionTimestamp": "2026-01-01T00:00:00Z"}}, id="deleted"
        ),
    ],
)
def test_other_claims_are_left_alone(other):
    assert [] == plan([other], [], "/volumes").create


def test_a_volume_is_made_once():
    assert [] == plan([claim()], [volume("Available")], "/volumes").create


@pytest.mark.parametrize(
    ("present", "expected"),
    [
        pytest.param(volume("Released"), [f"pvc-{UID}"], id="released"),
        pytest.param(volume("Bound"), [], id="bound"),
        pytest.param(volume("Released", by="someone"), [], id="not-ours"),
        pytest.param(volume("Released", policy="Retain"), [], id="retained"),
    ],
)
def test_only_our_released_volumes_go(present, expected):
    assert expected == plan([], [present], "/volumes").delete


@pytest.mark.parametrize("name", ["pvc-../..", "pvc-", "other", f"x-{UID}", f"pvc-{UID}/.."])
def test_no_other_folder_is_ever_named(name):
    with pytest.raises(ValueError, match="left alone"):
        provisioner.folder_of(name, Path("/volumes"))


def test_its_words_are_those_of_the_storage_class():
    """It runs without the rest of the package, so the words are written twice."""
    assert config.PROVISIONER == provisioner.PROVISIONER
    assert config.STORAGE_CLASS == provisioner.STORAGE_CLASS
    assert config.PROVISIONER == config.storage_class()["provisioner"]
