"""Builders for the node tests: a small worker, its checkpoint and its restore pods, and what one asks of them."""

import json
from pathlib import Path
from typing import Any

from cluster.api import Cluster
from contract.api import keys
from demo.kubectl import CommandError, Kubectl, wait_for

IMAGE = "dynamo-snapshot/demo-worker-placeholder:dev"
WORKER = (Path(__file__).parent / "tiny_worker.py").read_text()
PATIENT = {"webhook.timeoutSeconds": "10"}
"""Values: a busy machine must not look like an unreachable webhook. The chart's two seconds are the cluster tests'."""
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


def log(kubectl: Kubectl, name: str, container_name: str = "main") -> str:
    """What a container has said, once it has said a line: the runtime writes it down a moment later."""

    def look() -> str | None:
        said = kubectl("logs", name, "-c", container_name)
        return said if "\n" in said else None

    return wait_for(look, f"a line of {name}/{container_name}", READY_SECONDS)


def first_line(kubectl: Kubectl, name: str) -> str:
    """The first line of the worker's log, whole life of the container."""
    return log(kubectl, name).splitlines()[0]


def reported(kubectl: Kubectl, name: str, key: str = keys.ANN_RESTORE_REPORT) -> dict[str, Any]:
    """The pod, once the agent's word *key* is on it: the worker runs already when the agent writes it."""

    def look() -> dict[str, Any] | None:
        found = kubectl.get("pod", name)
        return found if key in found["metadata"].get("annotations", {}) else None

    return wait_for(look, f"{key} on pod {name}", READY_SECONDS)


def described(kubectl: Kubectl, kind: str, name: str, *words: str) -> str:
    """What ``kubectl describe`` prints, once all *words* are in it: Events follow what they tell of."""

    def look() -> str | None:
        found = kubectl("describe", kind, name)
        return found if all(word in found for word in words) else None

    return wait_for(look, f"{words} in the description of {kind} {name}", READY_SECONDS)


def messages(kubectl: Kubectl, reason: str) -> list[str]:
    """Messages of the Events with this reason, once there is one."""

    def look() -> list[str] | None:
        found = kubectl.items("events", "--field-selector", f"reason={reason}")
        return [each["message"] for each in found] or None

    return wait_for(look, f"an Event {reason}", READY_SECONDS)


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


def remove(kubectl: Kubectl, *names: str, wait: bool = True) -> None:
    """Delete objects without waiting for grace; nor for their end, where nothing later has their name."""
    kubectl("delete", *names, "--ignore-not-found", f"--wait={str(wait).lower()}", "--grace-period=1")


KILL_AGENT_AT = """
import os, pathlib, signal, sys, time

words, end = sys.argv[1], time.monotonic() + float(sys.argv[2])

def lines():
    for path in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        try:
            yield int(path.parent.name), path.read_bytes().replace(b"\\0", b" ").decode(errors="replace").strip()
        except OSError:
            continue

# Whoever runs this script has the words in its own command line.
while not any(words in line and "sys.argv" not in line for _, line in lines()):
    if time.monotonic() > end:
        sys.exit(f"no process {words!r} within {sys.argv[2]} s")
    time.sleep(0.005)
for pid, line in lines():
    if line == "python3 -m agent":
        os.kill(pid, signal.SIGKILL)
"""


def kill_agent_at(cluster: Cluster, words: str, seconds: float = CAPTURE_SECONDS) -> None:
    """SIGKILL the node's agents as soon as a process whose command line holds *words* runs.

    It is looked for in the node itself, every few milliseconds: a restore may be over in a second.
    """
    cluster.nodes.node(1).run("python3", "-c", KILL_AGENT_AT, words, str(seconds))
