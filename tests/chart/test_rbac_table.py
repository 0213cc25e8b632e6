"""R27, least rights: the table in docs/security.md is what the chart grants, and some things it never grants."""

from pathlib import Path

import pytest

from contract.api.rights import AGENT
from tests.support.rights import ANY, granted, table

PAGE = Path(__file__).parents[2] / "docs" / "security.md"
GRAPHS = ("--set", "graphDeployments.enabled=true")
EVERYWHERE = ("--set", "rbac.namespaceRestricted=false")
WAYS = {
    "defaults": (),
    "graphs": GRAPHS,
    "pod-mount": ("--set", "storage.accessMode=podMount"),
    "everywhere": (*EVERYWHERE, *GRAPHS, "--set", "storage.accessMode=podMount"),
    "openshift": ("--set", "openshift.enabled=true"),
    "cert-manager": ("--set", "webhook.certManager.enabled=true"),
    "monitoring": ("--set", "monitoring.dashboard.enabled=true"),
    "agent-only": ("--set", "coexist=agentOnly"),
}
NEVER = {
    "pods/exec",
    "pods/attach",
    "pods/portforward",
    "pods/ephemeralcontainers",
    "nodes/proxy",
    "serviceaccounts/token",
    "roles.rbac.authorization.k8s.io",
    "clusterroles.rbac.authorization.k8s.io",
    "rolebindings.rbac.authorization.k8s.io",
    "clusterrolebindings.rbac.authorization.k8s.io",
}
"""Each of them is a way to become somebody else."""


def lines_of(page, mark):
    """The table between two marks of the page."""
    text = page.read_text()
    _, begin, rest = text.partition(f"<!-- rights: {mark} -->\n")
    found, end, _ = rest.partition("<!-- end -->")
    assert begin, f"{mark} is marked"
    assert end, f"{mark} ends"
    return found.strip().splitlines()


@pytest.mark.parametrize("way", ["defaults", "graphs", "pod-mount"])
def test_the_page_lists_what_the_chart_grants(helm, way):
    """By default all of it; for the other ways to install what they add."""
    rights = granted(helm.render(*WAYS[way]))
    if way != "defaults":
        rights -= granted(helm.render())

    assert table(rights) == lines_of(PAGE, way)


@pytest.mark.parametrize("way", [way for way in WAYS if way != "openshift"])
def test_what_the_agent_is_granted_is_what_is_looked_for(helm, way):
    found = {right for right in granted(helm.render(*WAYS[way])) if right.account == "snapshot-agent"}

    assert {(right.verb, right.qualified) for right in AGENT} == {(right.verb, right.resource) for right in found}
    assert {right.qualified for right in AGENT if not right.namespaced} == (
        {"nodes"} if way == "everywhere" else {right.resource for right in found if right.everywhere}
    )


@pytest.fixture(scope="module", params=WAYS)
def rights(helm, request):
    return granted(helm.render(*WAYS[request.param]))


def test_nothing_is_granted_by_a_wildcard(rights):
    assert [] == [right for right in rights if "*" in right.resource or right.verb == "*"]


def test_nobody_can_become_somebody_else(rights):
    assert [] == [
        right for right in rights if right.resource in NEVER or right.verb in {"impersonate", "escalate", "bind"}
    ]


def test_secrets_are_two_named_ones_of_the_releases_namespace(rights):
    found = {(right.account, right.name, right.verb) for right in rights if right.resource == "secrets"}

    assert not [right for right in rights if right.resource == "secrets" and right.everywhere]
    assert {name for _, name, _ in found} <= {"snapshot-webhook-tls", "snapshot-webhook-ca"}
    assert {account for account, _, _ in found} <= {"snapshot-controller"}
    assert {verb for _, _, verb in found} <= {"get", "patch"}


def test_no_webhook_configuration_can_be_made_or_deleted(rights):
    found = [right for right in rights if "admissionregistration" in right.resource]

    assert {right.verb for right in found} <= {"get", "patch"}
    assert {right.name for right in found} <= {"snapshot-ns"}


def test_pods_are_never_made_or_deleted_by_ours(rights):
    """Jobs and Deployments make them, as whoever owns the template."""
    verbs = {right.verb for right in rights if right.resource == "pods"}

    assert verbs <= {"get", "list", "watch", "patch"}


@pytest.mark.parametrize("way", ["defaults", "graphs", "pod-mount", "cert-manager", "agent-only"])
def test_a_restricted_release_reaches_two_things_beyond_its_namespace(helm, way):
    """For its own webhook configuration, which the controller fills and the webhook reads, and the label of nodes."""
    found = {(right.resource, right.name, right.verb) for right in granted(helm.render(*WAYS[way])) if right.everywhere}
    configuration = ("mutatingwebhookconfigurations.admissionregistration.k8s.io", "snapshot-ns")
    reads, fills = {(*configuration, "get")}, {(*configuration, "patch")}
    nodes = {("nodes", ANY, verb) for verb in ("get", "patch")}

    others = {"agent-only": nodes, "cert-manager": nodes | reads}
    assert found == others.get(way, nodes | reads | fills)
