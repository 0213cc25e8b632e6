"""The webhook follows the claims that pods would mount, as the chart's own account, on a real API server."""

import json
from uuid import uuid4

import pytest

from cluster.errors import CommandError
from contract.api import keys
from tests.support.builders.objects import ID, checkpoint, claim, opted_in
from tests.support.fixtures.installed import RELEASE, Installed, new_namespace
from tests.support.waiting import until

CLAIM = json.dumps(claim())
READY = {"phase": "Ready", "checkpointID": ID}
PENDING = {"phase": "Pending", "checkpointID": "waits-for-it"}
WAIT = {keys.ANN_STARTUP_POLICY: "WaitForCheckpoint"}
UNAVAILABLE = "volume-claim-unavailable"


@pytest.fixture
def release(checkpoint_plane, tmp_path):
    """In podMount, with a Ready checkpoint and one that waits; nobody makes the claim."""
    space = new_namespace(checkpoint_plane, f"claims-{uuid4().hex[:6]}")
    found = Installed(checkpoint_plane, space, tmp_path, "storage.accessMode=podMount", "storage.pvc.create=false")
    for name, status in (("qwen", READY), ("waits", PENDING)):
        found.checkpoint(checkpoint(name), status)
    yield found
    found.end()
    found.uninstall()


def wish(name="qwen", **parts):
    body = opted_in(name=name, **parts)
    del body["metadata"]["namespace"]
    return body


def code(release, name="qwen", **parts):
    return release.code(wish(name, **parts))


def metric(release, name):
    lines = release.metrics("webhook").splitlines()
    return next((float(line.rpartition(" ")[2]) for line in lines if line.startswith(name + " ")), None)


def test_pods_are_shaped_while_the_claim_is_there(release):
    """Missing, made, going, gone: each seen by the watch, none asked for in a request."""
    where = ("-n", release.namespace)
    release.start("webhook")
    until(lambda: code(release) == UNAVAILABLE, "the webhook is asked")
    before = code(release, "waits", annotations=WAIT)
    release.kubectl("create", *where, "-f", "-", stdin=CLAIM)
    until(lambda: code(release) == "restore-shaped", "the claim is seen")
    held = code(release, "waits", annotations=WAIT)
    # The API server's own finalizer keeps it; no controller takes that off here.
    release.kubectl("delete", "pvc", "snapshot-pvc", *where, "--wait=false")
    until(lambda: code(release) == UNAVAILABLE, "that it goes is seen")
    release.kubectl("patch", "pvc", "snapshot-pvc", *where, "-p", '{"metadata":{"finalizers":null}}')
    release.kubectl("create", *where, "-f", "-", stdin=CLAIM)
    until(lambda: code(release) == "restore-shaped", "the next claim is seen")
    release.kubectl("patch", "pvc", "snapshot-pvc", *where, "--subresource=status", "-p", '{"status":{"phase":"Lost"}}')
    until(lambda: code(release) == UNAVAILABLE, "that its volume is lost is seen")

    assert (UNAVAILABLE, "held") == (before, held)
    cold = release.create(wish("waits", annotations=WAIT), "--dry-run=server")
    assert wish()["spec"]["containers"][0]["command"] == cold["spec"]["containers"][0]["command"]
    assert "schedulingGates" not in cold["spec"]


def allowed(release, *what):
    account = f"--as=system:serviceaccount:{release.namespace}:{RELEASE}-webhook"
    try:
        return release.kubectl("auth", "can-i", *what, "-n", release.namespace, account).strip() == "yes"
    except CommandError:
        return False


def test_its_account_may_look_at_no_other_claim(release):
    account = f"--as=system:serviceaccount:{release.namespace}:{RELEASE}-webhook"
    where = ("-n", release.namespace, account)
    own = release.kubectl("get", "pvc", *where, "--field-selector=metadata.name=snapshot-pvc", "-o", "name")
    refused = []
    for selector in ((), ("--field-selector=metadata.name=other",)):
        with pytest.raises(CommandError) as caught:
            release.kubectl("get", "pvc", *where, *selector, "-o", "name")
        refused.append("forbidden" in str(caught.value))

    assert ("", [True, True]) == (own, refused)
    assert not any(allowed(release, verb, "pvc/snapshot-pvc") for verb in ("get", "create", "patch", "delete"))


def test_without_the_right_it_serves_all_the_same_and_says_so(release):
    """The role of an earlier release: nothing is known of claims, but what the controller says of them."""
    where = ("-n", release.namespace)
    role = release.kubectl.json("get", "role", f"{RELEASE}-webhook", *where)
    rules = [rule for rule in role["rules"] if "persistentvolumeclaims" not in rule["resources"]]
    change = json.dumps([{"op": "replace", "path": "/rules", "value": rules}])
    release.kubectl("patch", "role", f"{RELEASE}-webhook", *where, "--type=json", "-p", change)
    release.start("webhook")
    until(lambda: code(release) == "restore-shaped", "the webhook is asked")
    entry = {"type": "StorageReady", "status": "False", "reason": "VolumeClaimMissing", "message": "gone"}
    entry["lastTransitionTime"] = "2026-01-31T10:00:00Z"
    change = json.dumps({"status": {"conditions": [entry]}})
    release.kubectl("patch", "dckpt", "qwen", *where, "--subresource=status", "--type=merge", "-p", change)

    until(lambda: code(release) == UNAVAILABLE, "the controller's word counts")
    assert "may not be listed" in release.log("webhook")
    assert 0 == metric(release, 'snapshot_informer_synced{copy="claims"}')
    restored = json.dumps([{"op": "replace", "path": "/rules", "value": role["rules"]}])
    release.kubectl("patch", "role", f"{RELEASE}-webhook", *where, "--type=json", "-p", restored)
    release.kubectl("create", *where, "-f", "-", stdin=CLAIM)
    until(lambda: code(release) == "restore-shaped", "with the right the claim is seen")
    assert 1 == metric(release, 'snapshot_informer_synced{copy="claims"}')
