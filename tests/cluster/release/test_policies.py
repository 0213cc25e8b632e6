"""The chart's policies with the real webhook before them, up and down, and with the controllers that make pods."""

import json
from uuid import uuid4

import pytest

from cluster.api import ControlPlane
from cluster.errors import CommandError
from contract.api import keys
from tests.support.builders.objects import ID, checkpoint, graph_pod, opted_in, pod
from tests.support.fixtures.installed import Installed
from tests.support.waiting import until

REQUIRE = {keys.ANN_POLICY: keys.POLICY_REQUIRE}
READY = {"phase": "Ready", "checkpointID": ID}
DRY = "--dry-run=server"


@pytest.fixture(scope="module")
def plane():
    """With the controllers, whose pods must be judged too."""
    with ControlPlane.start(controllers=True) as started:
        yield started


@pytest.fixture(scope="module")
def release(plane, tmp_path_factory):
    namespace = f"policies-{uuid4().hex[:6]}"
    plane.kubectl("create", "namespace", namespace)
    until(lambda: plane.kubectl("get", "serviceaccount", "default", "-n", namespace), "the account of pods")
    found = Installed(plane, namespace, tmp_path_factory.mktemp("release"), "policy.restoreVerb.enabled=true")
    try:
        yield found
    finally:
        found.end()


@pytest.fixture(scope="module")
def verb(release):
    """The account of these pods may restore everything but the checkpoint ``secret``."""
    names = ("ready", "pending", "nowhere")
    rights = (
        "--verb=restore",
        "--resource=dynamocheckpoints.nvidia.com",
        *(f"--resource-name={name}" for name in names),
    )
    release.kubectl("create", "role", "restore", "-n", release.namespace, *rights)
    account = f"--serviceaccount={release.namespace}:default"
    release.kubectl("create", "rolebinding", "restore", "-n", release.namespace, "--role=restore", account)


@pytest.fixture(scope="module")
def up(release, verb):
    """The webhook runs and knows three checkpoints."""
    for name, status in (("ready", READY), ("secret", READY), ("pending", {"phase": "Pending"})):
        release.checkpoint(checkpoint(name), status)
    release.start("webhook")
    until(lambda: release.code(wanting("ready")) == "restore-shaped", "the webhook is asked")
    return release


@pytest.fixture
def down(up):
    """The webhook is gone for one test."""
    up.kill("webhook")
    yield up
    up.start("webhook")
    until(lambda: up.code(wanting("ready")) == "restore-shaped", "the webhook is asked again")


def wanting(name, **parts):
    found = opted_in(name=name, **parts)
    del found["metadata"]["namespace"]
    return found


def waits(**annotations):
    found = wanting("ready", annotations={keys.ANN_STANDBY: keys.STANDBY_WAITS} | annotations)
    del found["metadata"]["annotations"][keys.ANN_CHECKPOINT_NAME]
    return found


def must(name, **annotations):
    return wanting(name, annotations=REQUIRE | annotations)


def test_the_api_server_finds_no_fault_in_their_types(release):
    """A misspelt field would be noticed only when it is met, and then refuse everything."""
    found = release.kubectl.json("get", "validatingadmissionpolicies")["items"]
    kinds = {f"{release.configuration}-{kind}" for kind in ("require", "restore-verb", "agent-node")}
    kinds |= {f"{release.configuration}-agent-{kind}" for kind in ("pods", "jobs", "leases")}

    assert kinds == {policy["metadata"]["name"] for policy in found}
    for name in kinds:

        def checked(policy=name):
            status = release.kubectl.json("get", "validatingadmissionpolicy", policy).get("status", {})
            return status if "typeChecking" in status else None

        assert {} == until(checked, f"{name} is checked")["typeChecking"]


def test_a_pod_that_must_not_start_cold_is_let_in_once_shaped(up):
    made = up.create(must("ready"), DRY)

    assert "restore-shaped" == made["metadata"]["annotations"][keys.ANN_ADMISSION]
    (policy,) = [e["value"] for e in made["spec"]["containers"][0]["env"] if e["name"] == keys.ENV_STANDBY_POLICY]
    assert keys.POLICY_REQUIRE == policy


@pytest.mark.parametrize(
    ("words", "body"),
    [
        pytest.param("checkpoint-not-found", must("nowhere"), id="no-checkpoint"),
        pytest.param("checkpoint-not-ready", must("pending"), id="not-ready"),
        pytest.param("startup-policy: WaitForCheckpoint", must("pending"), id="not-ready-remedy"),
        pytest.param("none; the pod did not opt in", pod(annotations=REQUIRE), id="no-opt-in"),
        pytest.param(
            "none; the pod did not opt in",
            pod(annotations=REQUIRE | {keys.ANN_CHECKPOINT: "ready"}),
            id="no-opt-in-but-a-name",
        ),
        pytest.param(
            "was written by hand",
            pod(annotations=REQUIRE | {keys.ANN_ADMISSION: "restore-shaped"}),
            id="a-decision-of-its-own",
        ),
        pytest.param(
            "was written by hand",
            pod(annotations=REQUIRE | {keys.ANN_ADMISSION: "placeholder"}),
            id="a-placeholder-of-its-own",
        ),
    ],
)
def test_a_pod_that_would_start_cold_is_refused_with_the_decision(up, words, body):
    body["metadata"].pop("namespace", None)
    said = until(lambda: up.refused(body, DRY), "refused")

    assert "annotation nvidia.com/snapshot-policy is Require, and this pod would start cold" in said
    assert words in said


def test_a_placeholder_that_must_not_start_cold_is_let_in(up):
    made = up.create(waits(**REQUIRE), DRY)

    assert "placeholder" == made["metadata"]["annotations"][keys.ANN_ADMISSION]
    (policy,) = [e["value"] for e in made["spec"]["containers"][0]["env"] if e["name"] == keys.ENV_STANDBY_POLICY]
    assert keys.POLICY_REQUIRE == policy


def test_the_verb_is_asked_of_what_is_named_on_a_placeholder(up):
    """Who may patch a pod gets no memory into it that its service account may not restore."""
    name = up.create(waits())["metadata"]["name"]

    def restore(checkpoint):
        body = {
            "metadata": {"labels": {keys.LABEL_CHECKPOINT_ID: ID}, "annotations": {keys.ANN_CHECKPOINT: checkpoint}}
        }
        return up.kubectl("patch", "pod", name, "-n", up.namespace, "-p", json.dumps(body))

    with pytest.raises(CommandError, match="may not restore DynamoCheckpoint secret"):
        restore("secret")
    assert f"pod/{name} patched" in restore("ready")
    up.kubectl("delete", "pod", name, "-n", up.namespace, "--grace-period=0", "--force")


def test_others_start_cold_as_ever(up):
    assert "checkpoint-not-found" == up.code(wanting("nowhere"))


def test_a_held_pod_is_let_in(up):
    """It waits for its checkpoint, and if that fails standby refuses to start cold."""
    made = up.create(must("pending", **{keys.ANN_STARTUP_POLICY: "WaitForCheckpoint"}), DRY)

    assert "held" == made["metadata"]["annotations"][keys.ANN_ADMISSION]
    assert [{"name": keys.SCHEDULING_GATE}] == made["spec"]["schedulingGates"]


def test_without_the_webhook_it_is_refused_all_the_same(down):
    """The API server judges by itself; no server of ours has to be up."""
    said = until(lambda: down.refused(must("ready"), DRY), "refused")

    assert "(nvidia.com/snapshot-admission: webhook-unreachable)" in said


def test_the_replicaset_says_why_and_starts_when_the_webhook_is_back(down):
    """What a Deployment's owner sees: an event and a condition; nothing is lost meanwhile."""
    body = must("ready")
    labels = body["metadata"]["labels"]
    template = {"metadata": {key: body["metadata"][key] for key in ("labels", "annotations")}, "spec": body["spec"]}
    spec = {"replicas": 1, "selector": {"matchLabels": {"app": labels["app"]}}, "template": template}
    down.create({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "must"}, "spec": spec})
    where = ("-n", down.namespace)

    def event():
        found = down.kubectl.json("get", "events", *where, "--field-selector=reason=FailedCreate")["items"]
        return next((each["message"] for each in found if each["involvedObject"]["kind"] == "ReplicaSet"), None)

    def condition():
        found = down.kubectl.json("get", "deployment", "must", *where).get("status", {}).get("conditions", [])
        return next((each["message"] for each in found if each["type"] == "ReplicaFailure"), None)

    for said in (until(event, "an event"), until(condition, "a condition")):
        assert "would start cold (nvidia.com/snapshot-admission: webhook-unreachable)" in said
    down.start("webhook")
    app = f"-lapp={labels['app']}"
    (made,) = until(lambda: down.kubectl.json("get", "pods", *where, app)["items"], "its pod")
    down.kubectl("delete", "deployment", "must", *where)

    assert "restore-shaped" == made["metadata"]["annotations"][keys.ANN_ADMISSION]


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(wanting, id="by-name"),
        pytest.param(lambda name: graph_pod(name=name), id="graph"),
        pytest.param(must, id="required"),
    ],
)
def test_the_verb_is_asked_of_pods_that_the_webhook_shaped(up, body):
    """Shaping takes the wish away, so the policy must read what the webhook leaves."""
    allowed, denied = body("ready"), body("secret")
    for each in (allowed, denied):
        each["metadata"].pop("namespace", None)
    said = until(lambda: up.refused(denied, DRY), "refused")

    assert "restore-shaped" == up.code(allowed)
    assert "service account default may not restore DynamoCheckpoint secret" in said


def test_an_automatic_pod_is_refused_before_its_first_checkpoint(up):
    """Not when the workload grows and the checkpoint is there: the right is missing from the start."""
    body = pod(labels={"app": "a", keys.LABEL_RESTORE: keys.RESTORE_AUTO})
    body["spec"]["containers"][0]["readinessProbe"] = {"httpGet": {"path": "/", "port": 8000}}
    del body["metadata"]["namespace"]
    said = until(lambda: up.refused(body, DRY), "refused")

    assert "may not restore DynamoCheckpoint checkpoint-" in said
    assert "kubectl create role restore-checkpoints --verb=restore" in said
    assert "--resource-name" not in said
