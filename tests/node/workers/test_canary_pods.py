"""Deployments with a canary: a restored pod is Ready once it has answered, and one that answers wrongly is cold."""

import json
from datetime import datetime

import pytest

from contract.api import keys
from contract.api.states import AgentReason
from demo.kubectl import Kubectl, wait_for
from tests.node.workers.captures.test_automatic import note, pods, ready, shaped
from tests.support.fixtures import node

WORKER = """
import http.server, json, os, secrets, socket, time
token = secrets.token_hex(8)
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/slow":
            time.sleep(4)
        body = json.dumps({"token": token, "host": socket.gethostname()}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_):
        pass
class Server(http.server.ThreadingHTTPServer):
    def handle_error(self, *_):
        pass  # who asks first may hang up on a busy node, and this worker runs before its first line of log
Server(("", 8000), Handler).serve_forever()
"""
SLOW = {"path": "/slow", "same": True, "select": ["/token"]}
CHECK = """
import json, urllib.request
print(json.load(urllib.request.urlopen("http://127.0.0.1:8000/", timeout=5))["token"])
"""
COMMAND = {"exec": {"command": ["python3", "-c", CHECK]}, "same": True}
OF_ITS_POD = {"path": "/", "same": True, "select": ["/host"]}


def deployment(name: str, canary: dict) -> dict:
    container = {
        "name": "main",
        "image": "dynamo-snapshot/demo-worker:dev",
        "command": ["python3", "-c", WORKER],
        "readinessProbe": {"httpGet": {"path": "/", "port": 8000}, "periodSeconds": 1},
    }
    labels = {"app": name}
    metadata = {
        "labels": labels | {keys.LABEL_RESTORE: keys.RESTORE_AUTO},
        "annotations": {keys.ANN_CANARY: json.dumps(canary)},
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": metadata,
                "spec": {"terminationGracePeriodSeconds": 1, "containers": [container]},
            },
        },
    }


@pytest.fixture(scope="module")
def applied(installed: Kubectl):
    found = {"canary-slow": SLOW, "canary-host": OF_ITS_POD, "canary-exec": COMMAND}
    for name, canary in found.items():
        installed("apply", "-f", "-", stdin=json.dumps(deployment(name, canary)))
    yield installed
    installed("delete", "deployment", *found)


def report(kubectl: Kubectl, name: str) -> dict:
    """Return the final report of the restore: it comes after the worker runs."""

    def look() -> dict | None:
        found = json.loads(note(node.reported(kubectl, name), keys.ANN_RESTORE_REPORT) or "{}")
        return found if found.get("outcome") else None

    return wait_for(look, f"the report of {name}", node.READY_SECONDS)


def seconds_between(one: str, other: str) -> float:
    return (datetime.fromisoformat(other) - datetime.fromisoformat(one)).total_seconds()


def test_a_restored_pod_is_ready_once_it_has_answered(applied: Kubectl):
    (name,) = ready(applied, "Deployment/canary-slow")
    applied("scale", "deployment", "canary-slow", "--replicas=2")
    (pod,) = shaped(applied, "canary-slow", name, 1)
    assert 4 <= report(applied, pod["metadata"]["name"])["seconds"]["canary"]
    (pod,) = shaped(applied, "canary-slow", name, 1)
    started = pod["status"]["containerStatuses"][0]["state"]["running"]["startedAt"]
    conditions = {each["type"]: each for each in pod["status"]["conditions"]}
    assert 4 <= seconds_between(started, conditions["Ready"]["lastTransitionTime"])
    assert 0 == pod["status"]["containerStatuses"][0]["restartCount"]


def test_a_restored_pod_is_ready_once_its_command_has_said_the_same(applied: Kubectl):
    """The command asks the worker for what only the captured process knows."""
    (name,) = ready(applied, "Deployment/canary-exec")
    applied("scale", "deployment", "canary-exec", "--replicas=2")
    (pod,) = shaped(applied, "canary-exec", name, 1)
    found = report(applied, pod["metadata"]["name"])
    assert ("restored", True) == (found["outcome"], found["seconds"]["canary"] > 0)
    (pod,) = shaped(applied, "canary-exec", name, 1)
    assert 0 == pod["status"]["containerStatuses"][0]["restartCount"]


def test_a_restored_worker_that_answers_otherwise_starts_cold(applied: Kubectl):
    """In the pod that it was captured in it answers rightly, so the checkpoint is Ready."""
    ready(applied, "Deployment/canary-host")
    applied("scale", "deployment", "canary-host", "--replicas=2")

    def restoring() -> dict | None:
        found = [pod for pod in pods(applied, "canary-host") if note(pod, keys.ANN_ADMISSION) == "restore-shaped"]
        return found[0] if found else None

    name = wait_for(restoring, "a pod that is to be restored", 60)["metadata"]["name"]
    node.await_ready(applied, name)
    assert report(applied, name)["reason"] == AgentReason.CANARY_FAILED
    assert "the worker that was restored in this pod before did not answer its canary" in node.log(applied, name)
    (status,) = applied.get("pod", name)["status"]["containerStatuses"]
    assert 1 == status["restartCount"]
