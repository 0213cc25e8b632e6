"""The chart's pods in a namespace that enforces the restricted Pod Security Standard, on the real API server."""

import pytest

from tests.support.policies import Release

LEVEL = "pod-security.kubernetes.io/enforce"


@pytest.fixture(scope="module")
def objects(helm):
    return helm.render("--set", "placeholder.mode=inject")


@pytest.fixture(scope="module")
def release(control_plane, new_namespace, objects):
    """A restricted namespace with the chart's service accounts in it."""
    namespace = new_namespace()
    control_plane.kubectl("label", "namespace", namespace, f"{LEVEL}=restricted")
    for account in [o for o in objects if o["kind"] == "ServiceAccount"]:
        control_plane.kubectl("create", "serviceaccount", account["metadata"]["name"], "-n", namespace)
    return Release(control_plane.kubectl, namespace)


def pod_of(workload):
    template = workload["spec"]["template"]
    metadata = {"name": "p", "labels": template["metadata"]["labels"]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        pytest.param("Deployment", "snapshot-webhook", id="webhook"),
        pytest.param("Deployment", "snapshot-controller", id="controller"),
        pytest.param("Job", "snapshot-farewell", id="farewell"),
    ],
)
def test_the_control_plane_runs_restricted(release, objects, pick, kind, name):
    made = release.create(pod_of(pick(objects, kind, name)))

    assert "Pending" == made["status"]["phase"]


def test_the_agent_does_not_and_says_why(release, objects, pick):
    """CRIU and other pods' namespaces need all of it; the notes tell what to do."""
    said = release.refused(pod_of(pick(objects, "DaemonSet")))

    assert 'violates PodSecurity "restricted' in said
    for reason in ("hostPID=true", "privileged", "hostPath"):
        assert reason in said


def test_the_agent_runs_where_its_namespace_allows_it(release, objects, pick):
    release.kubectl("label", "namespace", release.namespace, f"{LEVEL}=privileged", "--overwrite")
    try:
        release.create(pod_of(pick(objects, "DaemonSet")))
    finally:
        release.kubectl("label", "namespace", release.namespace, f"{LEVEL}=restricted", "--overwrite")


def test_the_notes_name_the_namespaces_level(control_plane, cluster_helm, chart, new_namespace):
    namespace = new_namespace()
    control_plane.kubectl("label", "namespace", namespace, f"{LEVEL}=baseline")
    said = cluster_helm("install", "snapshot", str(chart), "--namespace", namespace, "--dry-run=server")

    assert "enforces the Pod Security Standard baseline" in said
    assert f"kubectl label namespace {namespace} {LEVEL}=privileged --overwrite" in said
