"""R18, tenants of one cluster: whatever a pod says, it restores nothing of another namespace.

Nor do the accounts of a release read anything there.
"""

import json
from itertools import permutations
from pathlib import PurePosixPath
from uuid import uuid4

import pytest

from agent.pods import orders
from contract.api import keys
from contract.config.storage import storage_from_values
from contract.config.values import load_values
from tests.support.builders.objects import checkpoint, claim, graph_pod, opted_in, pod
from tests.support.fixtures.installed import RELEASE, Installed, new_namespace
from tests.support.waiting import until

TENANTS = ("a", "b", "c", "d")
DIGEST = "blake3:" + "a" * 64
PROBE = {"httpGet": {"path": "/", "port": 8000}}
STORES = {keys.STORAGE_VOLUME, "checkpoints"}


def id_of(tenant):
    return tenant * 16


def ready(tenant):
    status = {"phase": "Ready", "checkpointID": id_of(tenant), "manifestDigest": DIGEST}
    return status | {"location": f"/checkpoints/{id_of(tenant)}/versions/1"}


class Tenants:
    """Four namespaces, each with a Ready checkpoint of its own and one that has the same name everywhere."""

    def __init__(self, plane, releases, names):
        self.plane, self.releases, self.names = plane, releases, names
        for tenant in TENANTS:
            for name in (f"only-{tenant}", "shared"):
                self.release(tenant).checkpoint(checkpoint(name), ready(tenant), namespace=names[tenant])

    def release(self, tenant):
        return self.releases.get(tenant) or self.releases[""]

    def admit(self, tenant, body):
        """A pod as the API server would store it in a tenant's namespace."""
        body["metadata"].pop("namespace", None)
        return self.release(tenant).create(body, "--dry-run=server", namespace=self.names[tenant])

    def code(self, tenant, body):
        return self.admit(tenant, body)["metadata"].get("annotations", {}).get(keys.ANN_ADMISSION)


@pytest.fixture(scope="module", params=["one-release", "a-release-each"])
def tenants(request, control_plane, tmp_path_factory):
    """All served by one release, or each by one of its own."""
    run = uuid4().hex[:6]
    names = {tenant: new_namespace(control_plane, f"tenant-{run}-{tenant}") for tenant in TENANTS}
    folder = tmp_path_factory.mktemp("releases")
    releases = {}
    try:
        if request.param == "one-release":
            home = new_namespace(control_plane, f"tenant-{run}-system")
            wide = ("rbac.namespaceRestricted=false", "storage.accessMode=podMount")
            releases[""] = Installed(control_plane, home, folder / "all", *wide)
            for name in names.values():
                control_plane.kubectl("create", "-n", name, "-f", "-", stdin=json.dumps(claim()))
        else:
            releases |= {name: Installed(control_plane, names[name], folder / name) for name in TENANTS}
        for release in releases.values():
            release.start("webhook")
        found = Tenants(control_plane, releases, names)
        for tenant in TENANTS:
            own = opted_in(name=f"only-{tenant}")
            until(lambda who=tenant, body=own: found.code(who, body) == "restore-shaped", "the webhook is asked")
        yield found
    finally:
        for release in releases.values():
            release.end()
            release.uninstall()


def named(key):
    return lambda _ours, theirs, _space: pod(
        labels={keys.LABEL_RESTORE: "enabled"}, annotations={key: f"only-{theirs}"}
    )


def addressed(key):
    """With the namespace, as a path or as other references are written."""
    return lambda _ours, theirs, space: pod(
        labels={keys.LABEL_RESTORE: "enabled"}, annotations={key: f"{space}/only-{theirs}"}
    )


FORMS = {
    "name": named(keys.ANN_CHECKPOINT_NAME),
    "restore-from": named(keys.ANN_RESTORE_FROM),
    "name-with-namespace": addressed(keys.ANN_CHECKPOINT_NAME),
    "restore-from-with-namespace": addressed(keys.ANN_RESTORE_FROM),
    "id-as-name": lambda _ours, theirs, _space: opted_in(name=id_of(theirs)),
    "graph": lambda _ours, theirs, _space: graph_pod(name=f"only-{theirs}"),
    "namespace-in-the-pod": lambda _ours, theirs, space: opted_in(
        name=f"only-{theirs}", annotations={"nvidia.com/dynamo-checkpoint-namespace": space}
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_no_reference_leads_out_of_the_namespace(tenants, form):
    """Each tenant asks for each other's checkpoint: twelve pairs a form."""
    asking = []
    for ours, theirs in permutations(TENANTS, 2):
        body = FORMS[form](ours, theirs, tenants.names[theirs])
        body["metadata"]["namespace"] = tenants.names[ours]
        asking.append(body)
    stream = json.dumps({"apiVersion": "v1", "kind": "List", "items": asking})
    text = tenants.plane.kubectl("create", "--dry-run=server", "-o", "json", "-f", "-", stdin=stream)
    made = json.loads("[" + text.replace("\n}\n{", "\n},{") + "]")

    assert 12 == len(made)
    for each in made:
        assert "checkpoint-not-found" == each["metadata"]["annotations"][keys.ANN_ADMISSION]
        assert keys.LABEL_CHECKPOINT_ID not in each["metadata"].get("labels", {})
        assert keys.STANDBY not in each["spec"]["containers"][0]["command"]


def test_a_name_that_all_have_means_ones_own(tenants):
    for tenant in TENANTS:
        made = tenants.admit(tenant, opted_in(name="shared"))

        assert id_of(tenant) == made["metadata"]["labels"][keys.LABEL_CHECKPOINT_ID]


def test_automatic_workloads_of_one_template_share_nothing(tenants):
    """Even where somebody makes a Ready checkpoint of just that name in a namespace of his own."""

    def stamped(tenant):
        body = pod(labels={keys.LABEL_RESTORE: keys.RESTORE_AUTO})
        body["spec"]["containers"][0]["readinessProbe"] = PROBE
        notes = tenants.admit(tenant, body)["metadata"]["annotations"]
        return notes[keys.ANN_ADMISSION], notes[keys.ANN_CHECKPOINT]

    names = [stamped(tenant)[1] for tenant in TENANTS]
    assert 4 == len(set(names))
    tenants.release("b").checkpoint(checkpoint(names[0]), ready("b"), namespace=tenants.names["b"])

    assert ("checkpoint-requested", names[0]) == stamped("a")


def by_hand(name, checkpoint_id):
    """As the webhook would shape it, written by somebody who may create pods."""
    labels = {keys.LABEL_CHECKPOINT_ID: checkpoint_id, keys.LABEL_IS_RESTORE_TARGET: "true"}
    notes = {keys.ANN_CHECKPOINT: name, keys.ANN_TARGET_CONTAINERS: "main", keys.ANN_ARTIFACT_VERSION: "1"}
    body = pod(labels=labels, annotations=notes)
    body["metadata"] |= {"name": "by-hand", "uid": "u"}
    return body


def test_the_agent_restores_nothing_of_others_into_a_pod_shaped_by_hand(tenants):
    """It reads the checkpoint in the pod's own namespace, and takes no id but that checkpoint's."""
    storage = storage_from_values(load_values(""))
    listing = tenants.plane.kubectl.json("get", "dckpt", "--all-namespaces")["items"]
    stored = {(each["metadata"]["namespace"], each["metadata"]["name"]): each for each in listing}

    def order(tenant, name, checkpoint_id):
        found = stored.get((tenants.names[tenant], name))
        return orders.restore(by_hand(name, checkpoint_id), "main", found, storage)

    for ours, theirs in permutations(TENANTS, 2):
        assert "checkpoint-not-found" == order(ours, f"only-{theirs}", id_of(theirs)).reason
        assert "checkpoint-changed" == order(ours, "shared", id_of(theirs)).reason
        assert PurePosixPath("/checkpoints") == order(ours, "shared", id_of(ours)).base_path


def test_no_account_of_ours_reaches_into_another_namespace(tenants):
    """Every account of every release against every other tenant's namespace: nothing but asking about itself."""
    if "" in tenants.releases:
        pytest.skip("a release for all namespaces serves all namespaces")
    for ours, theirs in permutations(TENANTS, 2):
        for account in ("agent", "webhook", "controller"):
            user = f"--as=system:serviceaccount:{tenants.names[ours]}:{RELEASE}-{account}"
            listing = tenants.plane.kubectl(
                "auth", "can-i", "--list", "--no-headers", user, "-n", tenants.names[theirs]
            )
            left = [line for line in listing.splitlines() if line.split("[")[0].strip() and not _of_everybody(line)]
            # By name its own: the controller fills it, the webhook asks whether it is reached by it.
            own = ["mutatingwebhookconfigurations.admissionregistration.k8s.io"]
            allowed = {"agent": ["nodes"], "controller": own, "webhook": own}

            assert allowed[account] == [line.split()[0] for line in left]


def _of_everybody(line):
    return line.startswith(("selfsubject", "clustertrustbundles"))


def test_a_shaped_pod_mounts_no_store_of_the_agents(tenants):
    """agentMount: workers never see the volume that holds what others' memory held."""
    if "" in tenants.releases:
        pytest.skip("podMount mounts the claim of the pod's own namespace, read-only")
    made = tenants.admit("a", opted_in(name="only-a"))
    claims = [volume for volume in made["spec"]["volumes"] if "persistentVolumeClaim" in volume]
    mounts = {mount["name"] for mount in made["spec"]["containers"][0]["volumeMounts"]}

    assert [] == claims
    assert not STORES & mounts


def test_a_shaped_pod_mounts_its_own_namespaces_claim_read_only(tenants):
    if "" not in tenants.releases:
        pytest.skip("agentMount mounts none")
    made = tenants.admit("a", opted_in(name="only-a"))
    (store,) = [m for m in made["spec"]["containers"][0]["volumeMounts"] if m["name"] == keys.STORAGE_VOLUME]

    assert store["readOnly"] is True
