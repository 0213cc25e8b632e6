"""What graphDeployments.enabled adds to the chart, and where it steps back."""

import copy
import json
from pathlib import Path

import pytest
import yaml

from contract.api import keys
from contract.crds.graph import graph_crd

ON = ("--set", "graphDeployments.enabled=true")
CRD = f"{keys.GRAPH_PLURAL}.{keys.GROUP}"
ROLE = "snapshot-graphs"
ROOT = Path(__file__).parents[2]


def names(objects):
    return {(found["kind"], found["metadata"]["name"]) for found in objects}


@pytest.mark.parametrize(
    "flags",
    [
        pytest.param((), id="off"),
        pytest.param((*ON, "--set", "coexist=agentOnly"), id="agent-only"),
    ],
)
def test_nothing_is_there_where_nobody_serves_graphs(helm, flags):
    found = names(helm.render(*flags))

    assert ("CustomResourceDefinition", CRD) not in found
    assert ("Role", ROLE) not in found


def test_the_definition_is_the_generated_one_and_outlives_the_release(helm, pick):
    found = pick(helm.render(*ON), "CustomResourceDefinition")

    assert graph_crd() == found
    assert "keep" == found["metadata"]["annotations"]["helm.sh/resource-policy"]


@pytest.mark.parametrize(
    ("kind", "name", "flags"),
    [
        pytest.param("Role", ROLE, (), id="own-namespace"),
        pytest.param(
            "ClusterRole", "snapshot-ns-graphs", ("--set", "rbac.namespaceRestricted=false"), id="all-namespaces"
        ),
    ],
)
def test_the_rights_are_these_and_reach_as_far_as_the_release(helm, pick, kind, name, flags):
    objects = helm.render(*ON, *flags)
    found = {
        f"{group}/{resource}": rule["verbs"]
        for rule in pick(objects, kind, name)["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }
    binding = pick(objects, f"{kind}Binding", name)

    assert {
        "nvidia.com/dynamographdeployments": ["get", "list", "watch"],
        "nvidia.com/dynamographdeployments/status": ["patch"],
        "nvidia.com/dynamographdeployments/finalizers": ["update"],
        "nvidia.com/dynamocheckpoints": ["get", "create", "delete"],
        "apps/deployments": ["get", "list", "watch", "create", "patch", "delete"],
    } == found
    assert (kind, name) == (binding["roleRef"]["kind"], binding["roleRef"]["name"])
    assert [{"kind": "ServiceAccount", "name": "snapshot-controller", "namespace": "ns"}] == binding["subjects"]


def test_rights_can_be_left_to_somebody_else(helm):
    assert ROLE not in {name for _, name in names(helm.render(*ON, "--set", "rbac.create=false"))}


@pytest.fixture
def clean(control_plane):
    """No definition of graphs before and after."""

    def remove():
        control_plane.kubectl("delete", "crd", CRD, "--ignore-not-found", "--wait=true")

    remove()
    yield
    remove()


@pytest.fixture
def release(cluster_helm, chart, new_namespace):
    """Installs releases that serve graphs; this API server has nobody to run the hooks of their ends."""
    made = []

    def install(*flags, namespace=None):
        where = namespace or new_namespace()
        cluster_helm("upgrade", "--install", "snapshot", str(chart), "--namespace", where, *ON, *flags)
        made.append(where)
        return where

    yield install
    for where in made:
        cluster_helm("uninstall", "snapshot", "--namespace", where, "--no-hooks", "--ignore-not-found")


def owner(control_plane):
    path = "{.metadata.annotations.meta\\.helm\\.sh/release-namespace}"
    return control_plane.kubectl("get", "crd", CRD, "-o", f"jsonpath={path}").strip()


@pytest.mark.usefixtures("clean")
def test_the_first_release_looks_after_the_definition_and_it_stays(control_plane, cluster_helm, release):
    first = release()
    release()
    release(namespace=first)
    before = owner(control_plane)
    cluster_helm("uninstall", "snapshot", "--namespace", first, "--no-hooks")

    assert first == before == owner(control_plane)
    assert first == release(namespace=first)


@pytest.mark.usefixtures("clean")
def test_a_platform_that_owns_the_definition_stops_the_installation(control_plane, cluster_helm, chart, release):
    theirs = copy.deepcopy(graph_crd())
    theirs["metadata"]["annotations"] = {"controller-gen.kubebuilder.io/version": "v0.16.4"}
    control_plane.kubectl("apply", "--server-side", "-f", "-", stdin=json.dumps(theirs))
    said = cluster_helm.refusal("install", "snapshot", str(chart), "--namespace", "default", *ON)
    release("--set", "coexist=agentOnly")

    assert "graphDeployments.enabled: the CRD dynamographdeployments.nvidia.com" in said
    assert "set graphDeployments.enabled=false" in said
    assert "" == owner(control_plane)


def test_the_api_server_accepts_every_object(control_plane, helm, new_namespace):
    for flags in (ON, (*ON, "--set", "rbac.namespaceRestricted=false")):
        objects = helm.render(*flags, namespace=new_namespace())
        stream = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
        said = control_plane.kubectl(
            "apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", "-", stdin=stream
        )

        assert len(objects) == len(said.splitlines()), said


def test_the_examples_are_what_the_definition_takes(control_plane, new_namespace):
    """Every example of graphs, checked field by field where the schema knows the field."""
    control_plane.kubectl("apply", "--server-side", "-f", "-", stdin=json.dumps(graph_crd()))
    control_plane.kubectl("wait", "--for=condition=Established", f"crd/{CRD}")
    documents = [
        document
        for path in sorted((ROOT / "examples").glob("*/*.yaml"))
        for document in yaml.safe_load_all(path.read_text())
        if document.get("kind") == keys.GRAPH_KIND
    ]
    for document in documents:
        document["metadata"].pop("namespace", None)
        control_plane.kubectl(
            "create", "--dry-run=server", "-n", new_namespace(), "-f", "-", stdin=json.dumps(document)
        )

    assert documents
