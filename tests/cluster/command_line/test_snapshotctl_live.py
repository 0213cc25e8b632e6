"""The command line against a real API server: what it shows of a small world."""

import json
import re

import pytest
import yaml

from contract.api import keys
from tests.support.builders.objects import ID, IMAGE, container
from tests.support.fixtures.cli import DIGEST, GRAPH, NEWER, made_in


@pytest.fixture(scope="module")
def world(control_plane):
    return made_in(control_plane)


@pytest.mark.parametrize(
    ("exit_code", "name", "words"),
    [
        pytest.param(0, "restored-0", ["was restored", "in 0.50 s, 1.0 MiB"], id="restored"),
        pytest.param(
            3,
            "failed-0",
            ["starts cold: cpu-mismatch", "Keep the pods on nodes of one kind", "docs/reasons.md#cpu-mismatch"],
            id="failed-restore",
        ),
        pytest.param(
            3,
            "cold-0",
            ["starts cold: checkpoint-not-ready", "Insufficient nvidia.com/gpu", "Free what the scheduler misses"],
            id="not-ready",
        ),
        pytest.param(3, "silent-0", ["webhook-unreachable", "checkpoint-not-ready"], id="nobody-was-asked"),
        pytest.param(3, "plain-0", ["not-opted-in", "nvidia.com/snapshot-restore: auto"], id="not-opted-in"),
    ],
)
def test_why_of_live_pods(world, exit_code, name, words):
    result = world.run("why", name)
    assert exit_code == result.exit_code, result.output
    text = " ".join(result.stdout.split())
    assert all(word in text for word in words), result.stdout


def test_why_tells_what_a_new_pod_would_get(world):
    """The live decision is about the pod as it was before it was shaped."""
    result = world.run("why", "failed-0", "-o", "json")
    (answer,) = json.loads(result.stdout)["answers"]
    now = next(found for found in answer["findings"] if found["stage"] == "now")
    assert ("restore-shaped", "Pod/failed-0") == (now["code"], now["subject"])
    assert ["admission", "restore", "checkpoint", "now"] == [found["stage"] for found in answer["findings"]]


MANIFEST = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "web"},
    "spec": {
        "template": {
            "metadata": {
                "labels": {keys.LABEL_RESTORE: "enabled"},
                "annotations": {keys.ANN_CHECKPOINT_NAME: "qwen"},
            },
            "spec": {"containers": [container()]},
        }
    },
}


def test_why_of_a_manifest_uses_the_installed_values(world, control_plane, tmp_path):
    """The release's own ConfigMap decides; --values goes before it; a namespace that it does not serve is told."""
    path = tmp_path / "web.yaml"
    path.write_text(yaml.safe_dump(MANIFEST))
    result = world.run("why", "-f", str(path))
    assert (0, True) == (result.exit_code, "Deployment/web" in result.stdout), result.output
    values = tmp_path / "values.yaml"
    values.write_text("checkpoint: {enabled: false}")
    off = world.run("why", "-f", str(path), "--values", str(values), "-o", "yaml")
    assert (3, "checkpoint-disabled") == (off.exit_code, yaml.safe_load(off.stdout)["answers"][0]["code"])
    elsewhere = world.run("why", "-f", str(path), "-n", "default")
    assert 3 == elsewhere.exit_code
    assert "rbac.namespaceRestricted=true" in " ".join(elsewhere.stdout.split())
    stdin = world.run("why", "-f", "-", input=json.dumps(MANIFEST))
    assert result.stdout == stdin.stdout


def test_why_of_a_live_workload(world, control_plane):
    template = MANIFEST["spec"]["template"]
    template = template | {"metadata": template["metadata"] | {"labels": {keys.LABEL_RESTORE: "enabled", "app": "web"}}}
    spec = {"selector": {"matchLabels": {"app": "web"}}, "template": template, "replicas": 0}
    metadata = {"name": "web", "namespace": world.namespace}
    control_plane.kubectl.apply([MANIFEST | {"metadata": metadata, "spec": spec}])
    result = world.run("why", "deployment/web")
    assert (0, True) == (result.exit_code, "restores: restore-shaped" in result.stdout), result.output


def test_why_of_a_graph_answers_for_each_service(world, control_plane, tmp_path):
    """A graph in a file has no pods yet that could be told of; the message says how to go on."""
    graph = {
        "apiVersion": keys.API_VERSION,
        "kind": keys.GRAPH_KIND,
        "metadata": {"name": "graph", "namespace": world.namespace},
        "spec": GRAPH,
    }
    path = tmp_path / "graph.yaml"
    path.write_text(yaml.safe_dump(graph))
    offline = world.run("why", "-f", str(path))
    assert (1, True) == (offline.exit_code, "snapshotctl why dgd/graph" in offline.stderr)
    labels = {**dict.fromkeys(keys.GRAPH_LABELS, "graph-worker"), keys.LABEL_GRAPH: "graph"}
    wish = {keys.ANN_RESTORE_CANDIDATE: "true", keys.ANN_CHECKPOINT_NAME: "qwen", keys.ANN_TARGET_CONTAINERS: "main"}
    template = {"metadata": {"labels": labels, "annotations": wish}, "spec": {"containers": [container()]}}
    spec = {"selector": {"matchLabels": {keys.LABEL_GRAPH: "graph"}}, "template": template, "replicas": 0}
    metadata = {"name": "graph-worker", "namespace": world.namespace, "labels": {keys.LABEL_GRAPH: "graph"}}
    frontend = {"metadata": {"labels": labels}, "spec": {"containers": [container()]}}
    beside = {"metadata": metadata | {"name": "graph-frontend"}, "spec": spec | {"template": frontend}}
    control_plane.kubectl.apply([MANIFEST | {"metadata": metadata, "spec": spec}, MANIFEST | beside])
    condition = {"type": "StartedCold", "status": "True", "reason": "CheckpointFailed", "message": "no memory left"}
    status = {"state": "successful", "conditions": [condition | {"lastTransitionTime": "2026-01-29T10:05:00Z"}]}
    patch = ["patch", "dgd", "graph", "--subresource=status", "--type=merge", "-p", json.dumps({"status": status})]
    control_plane.kubectl("-n", world.namespace, *patch)
    result = world.run("why", "dgd/graph")
    assert 0 == result.exit_code, result.output
    assert "graph         graph: CheckpointFailed" in result.stdout
    assert "docs/graph-reasons.md#checkpoints" in result.stdout
    assert f"Deployment/graph-worker in {world.namespace} restores" in result.stdout
    assert "no checkpoint block, so not asked about: Deployment/graph-frontend" in " ".join(result.stdout.split())


def test_a_service_of_a_graph_that_asks_for_nothing_is_no_pod_that_opted_in(world, control_plane):
    labels = {**dict.fromkeys(keys.GRAPH_LABELS, "graph-frontend"), keys.LABEL_GRAPH: "graph"}
    metadata = {"name": "frontend-0", "namespace": world.namespace, "labels": labels}
    spec = {"containers": [container()]}
    wish = metadata | {"name": "candidate-0", "annotations": {keys.ANN_RESTORE_CANDIDATE: "true"}}
    pods = [{"apiVersion": "v1", "kind": "Pod", "metadata": each, "spec": spec} for each in (metadata, wish)]
    control_plane.kubectl.apply(pods)

    listed = world.run("get", "pods").stdout
    assert ("candidate-0" in listed, "frontend-0" in listed) == (True, False)


def test_get_checkpoints(world):
    result = world.run("get")
    lines = [line.split() for line in result.stdout.splitlines()]
    assert 0 == result.exit_code, result.output
    assert ["NAME", "PHASE", "ID", "VERSIONS", "SIZE", "USED", "BY", "AGE", "WHY"] == lines[0]
    assert ["busy", "Creating", "busy-id", "0"] == lines[1][:4]
    assert "Unschedulable" == lines[1][-1]
    assert ["qwen", "Ready", ID, "1,2", "1.3", "GiB", "2"] == lines[3][:7]
    assert "\x1b" not in result.stdout


def test_get_pods_of_all_namespaces(world):
    result = world.run("get", "pods", "-A")
    rows = {line.split()[1]: line.split() for line in result.stdout.splitlines() if world.namespace in line}
    assert [world.namespace, "restored-0", "restored", "qwen", "2"] == rows["restored-0"][:5]
    assert ("starts-cold", "cpu-mismatch") == (rows["failed-0"][2], rows["failed-0"][-1])
    assert "plain-0" not in rows


def test_get_for_programs(world):
    names = world.run("get", "-o", "name").stdout.split()
    assert f"dynamocheckpoints.nvidia.com/{'qwen'}" in names
    (item,) = json.loads(world.run("get", "qwen", "-o", "json").stdout)["items"]
    assert (["failed-0", "restored-0"], 1300 * 2**20) == (item["usedBy"], item["size"])


def test_describe_is_one_page(world):
    text = " ".join(world.run("describe", "qwen").stdout.split())
    assert all(word in text for word in (DIGEST, NEWER, "600 MiB", "restored-0", "failed-0", "cpu-mismatch", IMAGE))
    assert "Pods restore from it with label nvidia.com/snapshot-restore: enabled" in text
    assert "Taken on: node-1 amd64 Xeon, 2 x NVIDIA L4, kernel 6.1.0, driver 580.159.04" in text
    busy = " ".join(world.run("describe", "busy").stdout.split())
    assert all(word in busy for word in ("no spare GPU (x3)", "kubectl describe job checkpoint-job-busy-id-1"))
    assert "See docs/checkpoint-reasons.md#its-pod" in busy


def test_tree_shows_who_restores_from_what(world):
    result = world.run("tree")
    lines = [re.sub("^[│├└─ ]+", "", line) for line in result.stdout.splitlines()]
    assert world.namespace == lines[0]
    assert ["Deployment/web", "checkpoint-auto  Pending"] == lines[1:3]
    assert [
        "version 1  600 MiB",
        "failed-0  starts-cold  cpu-mismatch",
        "version 2  700 MiB",
        "restored-0  restored",
    ] == (lines[lines.index("version 1  600 MiB") :][:4])
    document = json.loads(world.run("tree", "-o", "json").stdout)
    assert [world.namespace] == [each["namespace"] for each in document["namespaces"]]
