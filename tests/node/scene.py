"""Builders for the node tests: a small worker, its checkpoint and its restore pods, and what one asks of them."""

import json
from datetime import datetime
from pathlib import Path
from typing import Any

from cluster.api import Cluster, ClusterError
from contract import keys
from demo.kubectl import CommandError, Kubectl, wait_for

IMAGE = "dynamo-snapshot/demo-worker-placeholder:dev"
WORKER = (Path(__file__).parent / "tiny_worker.py").read_text()
READY_SECONDS = 60
CAPTURE_SECONDS = 120


def container(**fields: Any) -> dict[str, Any]:
    """The small worker's container; *fields* replace or add."""
    return {
        "name": "main",
        "image": IMAGE,
        "imagePullPolicy": "Never",
        "command": ["python3", "-c", WORKER],
        "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}},
        **fields,
    }


def probe() -> dict[str, Any]:
    """The readiness probe of a worker that serves HTTP."""
    return {"httpGet": {"path": "/", "port": 8000}, "periodSeconds": 1}


def checkpoint(name: str, **fields: Any) -> dict[str, Any]:
    """A DynamoCheckpoint of the small worker, its identity made from its name."""
    template = {"metadata": {"labels": {"app": name}}, "spec": {"containers": [container(**fields)]}}
    return {
        "apiVersion": keys.API_VERSION,
        "kind": keys.CHECKPOINT_KIND,
        "metadata": {"name": name},
        "spec": {
            "identity": {"model": f"tests/{name}", "backendFramework": "generic"},
            "job": {"activeDeadlineSeconds": CAPTURE_SECONDS, "podTemplateSpec": template},
        },
    }


def pod(name: str, checkpoint_name: str, *, annotations: dict[str, str] | None = None, **fields: Any) -> dict[str, Any]:
    """A pod of the small worker that opted in by name."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "labels": {"app": checkpoint_name, keys.LABEL_RESTORE: keys.RESTORE_BY_NAME},
            "annotations": {keys.ANN_CHECKPOINT_NAME: checkpoint_name, **(annotations or {})},
        },
        "spec": {"terminationGracePeriodSeconds": 1, "containers": [container(**fields)]},
    }


def phase(kubectl: Kubectl, name: str, *wanted: str) -> dict[str, Any]:
    """Wait until a checkpoint has one of the wanted phases; return the object."""

    def look() -> dict[str, Any] | None:
        found = kubectl.get("dynamocheckpoint", name)
        return found if found.get("status", {}).get("phase") in wanted else None

    return wait_for(look, f"checkpoint {name} {' or '.join(wanted)}", CAPTURE_SECONDS)


def answer(kubectl: Kubectl, name: str) -> dict[str, Any] | None:
    """What the worker in a pod says of itself, None while it does not serve."""
    try:
        said = kubectl("get", "--raw", f"/api/v1/namespaces/{kubectl.namespace}/pods/{name}:8000/proxy/")
    except CommandError:
        return None
    found: dict[str, Any] = json.loads(said)
    return found


def await_answer(kubectl: Kubectl, name: str, seconds: float = READY_SECONDS) -> dict[str, Any]:
    """Wait for a worker's first answer."""
    return wait_for(lambda: answer(kubectl, name), f"an answer of pod {name}", seconds)


def is_ready(kubectl: Kubectl, name: str) -> bool:
    """Whether the pod's condition Ready is true."""
    conditions = kubectl.get("pod", name)["status"].get("conditions", [])
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


def await_ready(kubectl: Kubectl, name: str, seconds: float = READY_SECONDS) -> None:
    """Wait until a pod is Ready."""
    wait_for(lambda: is_ready(kubectl, name) or None, f"pod {name} Ready", seconds)


def first_line(kubectl: Kubectl, name: str) -> str:
    """The first line of the worker's log, whole life of the container."""
    return next(iter(kubectl("logs", name, "-c", "main").splitlines()), "")


def seconds_to_first_line(kubectl: Kubectl, name: str) -> float:
    """From the start of a pod's container, which kubelet tells to the second, to its first log line."""
    line = kubectl("logs", name, "-c", "main", "--timestamps").splitlines()[0]
    state = kubectl.get("pod", name)["status"]["containerStatuses"][0]["state"]
    said, started = line.split()[0], state["running"]["startedAt"]
    return (datetime.fromisoformat(f"{said[:26]}+00:00") - datetime.fromisoformat(started)).total_seconds()


def workers(kubectl: Kubectl, name: str) -> int:
    """How many Python processes the container has: the worker, and never a second one."""
    count = (
        "import os;"
        "others=[p for p in os.listdir('/proc') if p.isdigit() and int(p)!=os.getpid()];"
        "lines=[open(f'/proc/{p}/cmdline','rb').read() for p in others];"
        # standby's own command line holds the worker's as arguments.
        "print(sum(line.startswith(b'python3') and b'ThreadingHTTPServer' in line for line in lines))"
    )
    return int(kubectl("exec", name, "-c", "main", "--", "python3", "-c", count))


def create(kubectl: Kubectl, body: dict[str, Any]) -> None:
    """Create an object, as a controller would."""
    kubectl("create", "-f", "-", stdin=json.dumps(body))


def remove(kubectl: Kubectl, *names: str) -> None:
    """Delete objects without waiting for grace."""
    kubectl("delete", *names, "--ignore-not-found", "--wait=true", "--grace-period=1")


def kill_agent_at(cluster: Cluster, words: str) -> bool | None:
    """SIGKILL the node's agent if a process whose command line holds *words* runs; None if there is none yet."""
    node = cluster.node(1)
    try:
        node.run("pgrep", "-f", words)
    except ClusterError:
        return None
    node.run("pkill", "-KILL", "-f", "^python3 -m agent$")
    return True
