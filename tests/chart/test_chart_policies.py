"""The chart's admission policies, judged by the real API server."""

import json
import time
from dataclasses import dataclass

import pytest

from cluster.errors import CommandError

PATIENCE = 30.0
"""Seconds until the API server has compiled a new policy and seen a new role; mostly one or two."""


def a_pod(name="p", labels=None, annotations=None, account="default"):
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": labels or {}, "annotations": annotations or {}},
        "spec": {"serviceAccountName": account, "containers": [{"name": "main", "image": "x"}]},
    }


OPTED_IN = {"nvidia.com/snapshot-restore": "enabled"}
NAMED = {"nvidia.com/dynamo-checkpoint-name": "qwen"}


def until(attempt):
    """What *attempt* returns once it no longer fails; its last failure where it never succeeds."""
    end = time.monotonic() + PATIENCE
    while True:
        try:
            return attempt()
        except (AssertionError, CommandError):
            if time.monotonic() > end:
                raise


@dataclass(frozen=True)
class Release:
    kubectl: object
    namespace: str

    def create(self, pod):
        stream = json.dumps(pod)
        return json.loads(
            self.kubectl("create", "-n", self.namespace, "--dry-run=server", "-o", "json", "-f", "-", stdin=stream)
        )

    def refusal(self, *arguments, stdin=None):
        try:
            said = self.kubectl(*arguments, stdin=stdin)
        except CommandError as error:
            return str(error)
        raise AssertionError(f"accepted: {said}")


@pytest.fixture(scope="module")
def release(control_plane, cluster_helm, chart, new_namespace):
    """One release; its webhook runs nowhere, so it cannot be reached."""
    namespace = new_namespace()
    control_plane.kubectl("create", "serviceaccount", "default", "-n", namespace)
    flags = ("--namespace", namespace, "--set", "policy.restoreVerb.enabled=true")
    cluster_helm("install", "snapshot", str(chart), *flags)
    yield Release(control_plane.kubectl, namespace)
    cluster_helm("uninstall", "snapshot", "--namespace", namespace, "--no-hooks")


def admission_of(pod):
    return pod["metadata"].get("annotations", {}).get("nvidia.com/snapshot-admission")


@pytest.mark.parametrize(
    ("labels", "annotations"),
    [
        pytest.param(OPTED_IN, {}, id="by-label"),
        pytest.param({"nvidia.com/snapshot-restore": "auto"}, {}, id="automatic"),
        pytest.param({}, {"nvidia.com/dynamo-checkpoint-restore-candidate": "true"}, id="graph-pod"),
    ],
)
def test_a_pod_that_opted_in_says_that_the_webhook_was_not_reached(release, labels, annotations):
    def attempt():
        pod = release.create(a_pod(labels=labels, annotations=annotations))
        assert "webhook-unreachable" == admission_of(pod)

    until(attempt)


@pytest.mark.parametrize(
    ("labels", "annotations"),
    [
        pytest.param({}, {}, id="nothing"),
        pytest.param({"app": "x"}, {"note": "y"}, id="other-words"),
        pytest.param({"nvidia.com/snapshot-restore": "disabled"}, {}, id="disabled"),
        pytest.param({}, {"nvidia.com/dynamo-checkpoint-restore-candidate": "false"}, id="no-candidate"),
    ],
)
def test_other_pods_are_left_as_they_are(release, labels, annotations):
    assert annotations == release.create(a_pod(labels=labels, annotations=annotations))["metadata"].get(
        "annotations", {}
    )


def test_pods_of_other_namespaces_are_left_as_they_are(release, new_namespace):
    other = Release(release.kubectl, new_namespace())
    release.kubectl("create", "serviceaccount", "default", "-n", other.namespace)

    assert None is admission_of(other.create(a_pod(labels=OPTED_IN)))


def test_restoring_needs_the_verb_and_the_refusal_says_how_to_grant_it(release):
    namespace = release.namespace
    release.kubectl("create", "serviceaccount", "worker", "-n", namespace)
    pod = json.dumps(a_pod(labels=OPTED_IN, annotations=NAMED, account="worker"))
    create = ("create", "-n", namespace, "--dry-run=server", "-f", "-")
    said = until(lambda: release.refusal(*create, stdin=pod))

    assert "service account worker may not restore DynamoCheckpoint qwen" in said
    role = ("--verb=restore", "--resource=dynamocheckpoints.nvidia.com", "--resource-name=qwen", "-n", namespace)
    assert " ".join(("kubectl create role restore-qwen", *role)) in said
    release.kubectl("create", "role", "restore-qwen", *role)
    binding = ("--role=restore-qwen", f"--serviceaccount={namespace}:worker", "-n", namespace)
    release.kubectl("create", "rolebinding", "restore-qwen", *binding)

    until(lambda: release.kubectl(*create, stdin=pod))


@pytest.fixture(scope="module")
def nodes(control_plane):
    names = ("chart-node-1", "chart-node-2")
    for name in names:
        labels = {"kubernetes.io/hostname": name}
        control_plane.kubectl.apply(
            [{"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}}]
        )
    yield names
    control_plane.kubectl("delete", "node", *names)


@pytest.fixture(scope="module")
def token(release, nodes):
    """As the agent on the first node has it."""
    bound = ("--bound-object-kind=Node", f"--bound-object-name={nodes[0]}")
    return release.kubectl("create", "token", "snapshot-agent", "-n", release.namespace, *bound).strip()


def patch(node, body):
    return ("patch", "node", node, "--type=merge", "-p", json.dumps(body))


READY = {"metadata": {"labels": {"nvidia.com/snapshot-node": "ready"}}}


def test_an_agent_labels_its_own_node(release, nodes, token):
    until(lambda: release.kubectl(f"--token={token}", *patch(nodes[0], READY)))
    found = release.kubectl.json("get", "node", nodes[0])["metadata"]["labels"]

    assert "ready" == found["nvidia.com/snapshot-node"]
    release.kubectl(f"--token={token}", *patch(nodes[0], {"metadata": {"labels": {"nvidia.com/snapshot-node": None}}}))


@pytest.mark.parametrize(
    ("message", "which", "body"),
    [
        pytest.param("only the node that it runs on", 1, READY, id="another-node"),
        pytest.param("only the label", 0, {"metadata": {"labels": {"role": "x"}}}, id="another-label"),
        pytest.param(
            "only the label", 0, {"metadata": {"labels": {"kubernetes.io/hostname": None}}}, id="label-removed"
        ),
        pytest.param("only the label", 0, {"metadata": {"annotations": {"a": "b"}}}, id="annotation"),
        pytest.param("only the label", 0, {"spec": {"unschedulable": True}}, id="cordon"),
        pytest.param("only the label", 0, {"spec": {"taints": [{"key": "k", "effect": "NoSchedule"}]}}, id="taint"),
    ],
)
def test_an_agent_may_change_nothing_else_of_a_node(release, nodes, token, message, which, body):
    said = until(lambda: release.refusal(f"--token={token}", *patch(nodes[which], body)))

    assert message in said, said


def test_a_stolen_token_without_a_node_is_worth_nothing(release, nodes):
    unbound = release.kubectl("create", "token", "snapshot-agent", "-n", release.namespace).strip()
    said = until(lambda: release.refusal(f"--token={unbound}", *patch(nodes[0], READY)))

    assert "only the node that it runs on" in said
