"""What the command line looks at: checkpoints, pods and a release, written as the system would leave them."""

import json
from pathlib import Path
from uuid import uuid4

from click.testing import CliRunner

from contract.api import keys
from snapshotctl.__main__ import main
from tests.support.object_builders import ID, checkpoint, opted_in, pod, ready

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
GRAPH = {"services": {"Worker": {"componentType": "worker", "replicas": 0}}}


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


def objects_of(namespace):
    """What a person would see there."""
    automatic = checkpoint(
        "checkpoint-auto",
        annotations={keys.ANN_AUTO_CHECKPOINT: "true", keys.ANN_WORKLOAD: "Deployment/web"},
        labels={keys.LABEL_CHECKPOINT_ID: "auto"},
    )
    return [
        ready("qwen"),
        checkpoint("busy", labels={keys.LABEL_CHECKPOINT_ID: "busy-id"}),
        automatic,
        shaped("restored-0", "2", **told("completed", GOOD)),
        shaped("failed-0", "1", **told("failed", REPORT)),
        cold("cold-0", "checkpoint-not-ready"),
        cold("silent-0", ""),
        plain("plain-0"),
        config_map(namespace),
        {"apiVersion": keys.API_VERSION, "kind": keys.GRAPH_KIND, "metadata": {"name": "graph"}, "spec": GRAPH},
    ]


def event_in(namespace):
    about = {"apiVersion": keys.API_VERSION, "kind": keys.CHECKPOINT_KIND, "name": "busy", "namespace": namespace}
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": "busy.1", "namespace": namespace},
        "involvedObject": about,
        "reason": "Unschedulable",
        "message": "no spare GPU",
        "type": "Warning",
        "count": 3,
        "lastTimestamp": "2026-01-29T10:05:00Z",
    }


def made_in(control_plane):
    """A namespace with checkpoints, pods, a graph and a release."""
    kubectl = control_plane.kubectl
    for folder in ("crds", "files"):
        for path in sorted((ROOT / "charts/snapshot" / folder).glob("nvidia.com_*.yaml")):
            kubectl("apply", "--server-side", "--force-conflicts", "-f", str(path))
    kubectl("wait", "--for=condition=Established", "--timeout=30s", "crd", "--all")
    name = f"cli-{uuid4().hex[:8]}"
    kubectl("create", "namespace", name)
    kubectl("--namespace", name, "create", "serviceaccount", "default")
    objects = objects_of(name)
    for obj in objects:
        obj["metadata"] = {key: value for key, value in obj["metadata"].items() if key not in ("uid", "generation")}
        obj["metadata"]["namespace"] = name
        obj.pop("status", None)
    kubectl.apply(objects)
    for what, status in (("qwen", READY), ("busy", STUCK)):
        body = json.dumps({"status": status})
        kubectl("-n", name, "patch", "dckpt", what, "--subresource=status", "--type=merge", "-p", body)
    kubectl.apply([event_in(name)])
    return World(control_plane, name)


class World:
    def __init__(self, plane, namespace):
        self.plane, self.namespace = plane, namespace

    def run(self, *arguments, kubeconfig=None, **more):
        where = ["--kubeconfig", str(kubeconfig or self.plane.kubeconfig)]
        scope = [] if {"-A", "-n"} & set(arguments) else ["-n", self.namespace]
        return CliRunner().invoke(main, [*arguments, *scope, *where], **more)
