"""The command line against a real API server: what it shows of a small world, and what it says when it cannot."""

import json
import os
import re
import subprocess
import sys
import threading
from pathlib import Path
from uuid import uuid4

import pytest
import yaml
from click.testing import CliRunner

from contract import keys
from snapshotctl.__main__ import main
from tests.cluster.test_admission import until
from tests.shapes import ID, IMAGE, checkpoint, container, opted_in, pod, ready

ROOT = Path(__file__).resolve().parents[2]
DIGEST = "blake3:" + "a" * 64
NEWER = "blake3:" + "b" * 64
REPORT = {"container": "main", "outcome": "failed", "reason": "cpu-mismatch", "seconds": {"total": 0.5}, "bytes": 0}
GOOD = REPORT | {"outcome": "restored", "reason": "", "bytes": 2**20}
VERSIONS = [
    {"version": "1", "manifestDigest": DIGEST, "size": 600 * 2**20, "createdAt": "2026-01-29T10:05:00Z"},
    {"version": "2", "manifestDigest": NEWER, "size": 700 * 2**20, "createdAt": "2026-01-30T10:05:00Z"},
]
READY = {
    "phase": "Ready",
    "checkpointID": ID,
    "jobName": f"checkpoint-job-{ID}-2",
    "location": f"/checkpoints/{ID}/versions/2",
    "size": 700 * 2**20,
    "manifestDigest": NEWER,
    "versions": VERSIONS,
}
STUCK = {
    "phase": "Creating",
    "checkpointID": "busy-id",
    "jobName": "checkpoint-job-busy-id-1",
    "message": "pod x is not scheduled: 0/3 nodes are available: 3 Insufficient nvidia.com/gpu.",
    "conditions": [
        {
            "type": "Ready",
            "status": "False",
            "reason": "Unschedulable",
            "message": "pod x is not scheduled: 0/3 nodes are available: 3 Insufficient nvidia.com/gpu.",
            "lastTransitionTime": "2026-01-29T10:05:00Z",
        }
    ],
}


def shaped(name, version, **annotations):
    """A pod as the webhook and the agent leave it."""
    obj = opted_in(name="qwen")
    metadata = obj["metadata"]
    del metadata["generateName"]
    metadata["name"] = name
    metadata["labels"] |= {keys.LABEL_CHECKPOINT_ID: ID, keys.LABEL_IS_RESTORE_TARGET: "true"}
    metadata["annotations"] = {
        keys.ANN_CHECKPOINT: "qwen",
        keys.ANN_ADMISSION: "restore-shaped",
        keys.ANN_ARTIFACT_VERSION: version,
        keys.ANN_TARGET_CONTAINERS: "main",
        **annotations,
    }
    obj["spec"]["containers"][0]["command"] = [keys.STANDBY, "--", "python3", "-m", "worker"]
    return obj


def cold(name, code):
    obj = opted_in(name="busy")
    del obj["metadata"]["generateName"]
    obj["metadata"] |= {"name": name}
    if code:
        obj["metadata"]["annotations"][keys.ANN_ADMISSION] = code
    return obj


def told(status, report):
    return {keys.ANN_RESTORE_STATUS_PREFIX + "main": status, keys.ANN_RESTORE_REPORT: json.dumps(report)}


def plain(name):
    obj = pod()
    del obj["metadata"]["generateName"]
    obj["metadata"]["name"] = name
    return obj


def config_map(namespace, values="placeholder: {mode: image}"):
    labels = {
        "app.kubernetes.io/part-of": "dynamo-snapshot",
        "app.kubernetes.io/component": "config",
        "app.kubernetes.io/instance": "snap",
    }
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "snap-config", "namespace": namespace, "labels": labels},
        "data": {"config.yaml": values},
    }


@pytest.fixture(scope="module")
def world(control_plane):
    """A namespace with checkpoints, pods and a release."""
    kubectl = control_plane.kubectl
    for folder in ("crds", "files"):
        for path in sorted((ROOT / "charts/snapshot" / folder).glob("nvidia.com_*.yaml")):
            kubectl("apply", "--server-side", "--force-conflicts", "-f", str(path))
    kubectl("wait", "--for=condition=Established", "--timeout=30s", "crd", "--all")
    name = f"cli-{uuid4().hex[:8]}"
    kubectl("create", "namespace", name)
    kubectl("--namespace", name, "create", "serviceaccount", "default")
    automatic = checkpoint(
        "checkpoint-auto",
        annotations={keys.ANN_AUTO_CHECKPOINT: "true", keys.ANN_WORKLOAD: "Deployment/web"},
        labels={keys.LABEL_CHECKPOINT_ID: "auto"},
    )
    objects = [
        ready("qwen"),
        checkpoint("busy", labels={keys.LABEL_CHECKPOINT_ID: "busy-id"}),
        automatic,
        shaped("restored-0", "2", **told("completed", GOOD)),
        shaped("failed-0", "1", **told("failed", REPORT)),
        cold("cold-0", "checkpoint-not-ready"),
        cold("silent-0", ""),
        plain("plain-0"),
        config_map(name),
    ]
    for obj in objects:
        obj["metadata"] = {key: value for key, value in obj["metadata"].items() if key not in ("uid", "generation")}
        obj["metadata"]["namespace"] = name
        obj.pop("status", None)
    kubectl.apply(objects)
    for what, status in (("qwen", READY), ("busy", STUCK)):
        body = json.dumps({"status": status})
        kubectl("-n", name, "patch", "dckpt", what, "--subresource=status", "--type=merge", "-p", body)
    event = {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": "busy.1", "namespace": name},
        "involvedObject": {"apiVersion": keys.API_VERSION, "kind": keys.CHECKPOINT_KIND, "name": "busy"},
        "reason": "Unschedulable",
        "message": "no spare GPU",
        "type": "Warning",
        "count": 3,
        "lastTimestamp": "2026-01-29T10:05:00Z",
    }
    kubectl.apply([event | {"involvedObject": event["involvedObject"] | {"namespace": name}}])
    return World(control_plane, name)


class World:
    def __init__(self, plane, namespace):
        self.plane, self.namespace = plane, namespace

    def run(self, *arguments, kubeconfig=None, **more):
        where = ["--kubeconfig", str(kubeconfig or self.plane.kubeconfig)]
        scope = [] if {"-A", "-n"} & set(arguments) else ["-n", self.namespace]
        return CliRunner().invoke(main, [*arguments, *scope, *where], **more)


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
        "spec": {"services": {"Worker": {"componentType": "worker", "replicas": 0}}},
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
    control_plane.kubectl.apply([graph, MANIFEST | {"metadata": metadata, "spec": spec}])
    condition = {"type": "StartedCold", "status": "True", "reason": "CheckpointFailed", "message": "no memory left"}
    status = {"state": "successful", "conditions": [condition | {"lastTransitionTime": "2026-01-29T10:05:00Z"}]}
    patch = ["patch", "dgd", "graph", "--subresource=status", "--type=merge", "-p", json.dumps({"status": status})]
    control_plane.kubectl("-n", world.namespace, *patch)
    result = world.run("why", "dgd/graph")
    assert 0 == result.exit_code, result.output
    assert "graph         graph: CheckpointFailed" in result.stdout
    assert "docs/graph-reasons.md#checkpoints" in result.stdout
    assert f"Deployment/graph-worker in {world.namespace} restores" in result.stdout


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


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        pytest.param(("why", "restored-1"), "did you mean restored-0?", id="pod"),
        pytest.param(("describe", "qwem"), "did you mean qwen?", id="checkpoint"),
        pytest.param(("why", "deployment/nothing-like-it"), "choose one with -n", id="workload"),
        pytest.param(("why", "wibble/x"), "deployment/NAME", id="kind"),
        pytest.param(("why", "dgd/grap"), "did you mean graph?", id="graph"),
        pytest.param(("get", "nobody"), "no checkpoint nobody", id="get"),
        pytest.param(("adopt", "nobody"), "create it first", id="adopt"),
    ],
)
def test_names_that_are_not_there(world, arguments, words):
    result = world.run(*arguments)
    assert 1 == result.exit_code
    assert words in result.stderr


def test_without_rights_it_says_which_command_gives_them(world, control_plane, tmp_path):
    """The commands in the message, typed as they are, are enough."""
    kubectl, namespace = control_plane.kubectl, world.namespace
    kubectl("-n", namespace, "create", "serviceaccount", "reader")
    token = kubectl("-n", namespace, "create", "token", "reader").strip()
    limited = tmp_path / "kubeconfig"
    limited.write_text(control_plane.kubeconfig.read_text().replace(control_plane.token, token))
    for _ in range(6):
        result = world.run("why", "restored-0", kubeconfig=limited)
        if result.exit_code != 1:
            break
        create, bind = (part.split() for part in result.stderr.split("`")[1::2])
        # A role of that name may be there from the round before: each adds one kind of object.
        suffix = uuid4().hex[:6]
        for command in (create, bind):
            words = [word.replace("snapshot-user", f"snapshot-user-{suffix}") for word in command]
            assert "kubectl" == words[0]
            kubectl(*words[1:])
        wait_until_allowed(world, result.stderr, limited)
    assert 0 == result.exit_code, result.output
    assert "may not be read" in result.stdout


def wait_until_allowed(world, before, kubeconfig):
    """The server's authorizer follows new bindings a moment later."""

    def changed():
        result = world.run("why", "restored-0", kubeconfig=kubeconfig)
        return result.exit_code != 1 or result.stderr != before

    until(changed, "the new right")


def test_without_the_chart_it_says_how_to_install_it(tmp_path):
    """A cluster of its own, because the kinds of the session's one are there already."""
    from cluster.api import ControlPlane  # noqa: PLC0415 - only this test starts one

    with ControlPlane.start() as bare:
        result = World(bare, "default").run("get")
    assert 1 == result.exit_code
    assert "helm install" in result.stderr


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param("", "no usable cluster configuration", id="no-cluster"),
        pytest.param("server", "is it the right cluster?", id="nobody-answers"),
        pytest.param("token", "log in again", id="wrong-token"),
    ],
)
def test_clusters_that_cannot_be_asked(world, control_plane, tmp_path, text, words):
    path = tmp_path / "kubeconfig"
    config = control_plane.kubeconfig.read_text()
    replaced = {
        "": "",
        "server": config.replace(control_plane.server, "https://127.0.0.1:1"),
        "token": config.replace(control_plane.token, "x"),
    }
    path.write_text(replaced[text])
    result = world.run("get", kubeconfig=path)
    assert 1 == result.exit_code
    assert words in result.stderr


def complete(world, line):
    words = f"snapshotctl {line}"
    environment = os.environ | {
        "KUBECONFIG": str(world.plane.kubeconfig),
        "_SNAPSHOTCTL_COMPLETE": "bash_complete",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split(" ")) - 1),
    }
    argv = [sys.executable, "-c", "from snapshotctl.__main__ import main; main(prog_name='snapshotctl')"]
    done = subprocess.run(argv, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    return [each.partition(",")[2] for each in done.stdout.split()]


def test_completion_knows_live_names(world):
    """It gives up soon, so a busy machine may need several looks."""
    until(lambda: ["restored-0"] == complete(world, f"why -n {world.namespace} rest"), "a pod")
    until(lambda: ["qwen"] == complete(world, f"describe -n {world.namespace} q"), "a checkpoint")
    until(lambda: [world.namespace] == complete(world, f"get -n {world.namespace[:-1]}"), "a namespace")


def test_adopt_waits_for_the_answer(world, control_plane):
    """The controller's half is played here: condition and status first, then the question is taken away."""
    kubectl, namespace = control_plane.kubectl, world.namespace
    kubectl.apply([{**checkpoint("old"), "metadata": {"name": "old", "namespace": namespace}}])

    def answer():
        wait = ["wait", "--for=jsonpath={.metadata.annotations.nvidia\\.com/snapshot-adopt}=7", "--timeout=20s"]
        kubectl("-n", namespace, *wait, "dckpt/old")
        condition = {"type": "Adopted", "status": "True", "reason": "Adopted", "message": "version 7: taken over"}
        condition |= {"lastTransitionTime": "2026-01-29T10:05:00Z"}
        status = READY | {"versions": [VERSIONS[0] | {"version": "7"}], "conditions": [condition]}
        body = json.dumps({"status": status})
        kubectl("-n", namespace, "patch", "dckpt", "old", "--subresource=status", "--type=merge", "-p", body)
        kubectl("-n", namespace, "annotate", "dckpt", "old", f"{keys.ANN_ADOPT}-")

    other = threading.Thread(target=answer)
    other.start()
    result = world.run("adopt", "old", "--version", "7", "--timeout", "20")
    other.join()
    assert 0 == result.exit_code, result.output
    facts = dict(line.split("=", 1) for line in result.stdout.splitlines())
    assert ("completed", "old", "7", DIGEST) == tuple(
        facts[k] for k in ("status", "name", "version", "manifest_digest")
    )


def test_adopt_gives_up_in_time_and_says_what_it_waited_for(world):
    result = world.run("adopt", "busy", "--version", "3", "--timeout", "1")
    assert 1 == result.exit_code
    assert "status=pending" in result.stdout
    assert "the controller has not begun" in result.stderr


def test_watch_goes_on_with_changes(world, control_plane):
    environment = os.environ | {"KUBECONFIG": str(control_plane.kubeconfig), "PYTHONUNBUFFERED": "1"}
    argv = [sys.executable, "-m", "snapshotctl", "get", "-n", world.namespace, "--watch", "busy"]
    with subprocess.Popen(argv, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as process:
        head = [process.stdout.readline().split() for _ in range(2)]
        assert ["NAME", "busy"] == [words[0] for words in head]
        body = json.dumps({"status": {"phase": "Failed"}})
        patch = ["patch", "dckpt", "busy", "--subresource=status", "--type=merge", "-p"]
        found = []
        for _ in range(40):
            # The watch may begin after the first change; each is another one.
            control_plane.kubectl("-n", world.namespace, *patch, body)
            control_plane.kubectl("-n", world.namespace, "annotate", "--overwrite", "dckpt", "busy", f"n={uuid4().hex}")
            found = process.stdout.readline().split()
            if "Failed" in found:
                break
        process.terminate()
    assert ["busy", "Failed"] == found[:2]
