"""A running pod is captured and goes on; a later pod is restored from it with the state of then."""

import json

import pytest
from click.testing import CliRunner, Result

from contract.api import keys
from contract.api.states import AgentReason
from demo.kubectl import Kubectl
from demo.platform import Platform
from snapshotctl.__main__ import main
from tests.support.fixtures import node

FIRST, SECOND = "running-first", "running-second"
COUNTER = """
import http.server, json, os, threading
import snapshot_sdk
state = {"count": 0, "token": os.urandom(8).hex()}
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        state["count"] += self.path == "/count"
        body = json.dumps(state).encode()
        self.send_response(200); self.send_header("Content-Length", str(len(body))); self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_):
        pass
server = http.server.ThreadingHTTPServer(("", 8000), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
snapshot_sdk.quiesce()
threading.Event().wait()
"""
FIELDS = {"command": ["python3", "-c", COUNTER], "readinessProbe": node.probe()}


def count(kubectl: Kubectl, name: str) -> dict:
    return json.loads(kubectl("get", "--raw", f"/api/v1/namespaces/{kubectl.namespace}/pods/{name}:8000/proxy/count"))


def snapshotctl(platform: Platform, kubectl: Kubectl, *words: str) -> Result:
    where = ["-n", kubectl.namespace, "--kubeconfig", str(platform.kubeconfig)]
    return CliRunner().invoke(main, [*words, *where])


@pytest.fixture(scope="module")
def serving(installed: Kubectl) -> str:
    """Name of a restored pod that serves."""
    installed("apply", "-f", "-", stdin=json.dumps(node.checkpoint(FIRST, **FIELDS)))
    node.phase(installed, FIRST, "Ready", "Failed")
    installed("apply", "-f", "-", stdin=json.dumps(node.pod("running-source", FIRST, **FIELDS)))
    node.await_ready(installed, "running-source")
    assert node.first_line(installed, "running-source").startswith("SNAPSHOT_RESTORED")
    return "running-source"


def test_the_source_goes_on_and_a_later_pod_has_the_state_of_then(platform: Platform, installed: Kubectl, serving: str):
    before = [count(installed, serving) for _ in range(3)][-1]
    result = snapshotctl(platform, installed, "checkpoint", "--pod", serving, "--name", SECOND, "--wait")
    assert 0 == result.exit_code, result.output
    assert "status=completed" in result.stdout
    assert before | {"count": before["count"] + 1} == count(installed, serving)
    (status,) = installed.get("pod", serving)["status"]["containerStatuses"]
    assert (True, 0) == (status["ready"], status["restartCount"])
    checkpoint = installed.get("dynamocheckpoint", SECOND)["status"]
    assert ("Ready", "Read") == (checkpoint["phase"], checkpoint["proof"])
    assert "Restored" == installed.get("dynamocheckpoint", FIRST)["status"]["proof"]

    installed("apply", "-f", "-", stdin=json.dumps(node.pod("running-target", SECOND, **FIELDS)))
    node.await_ready(installed, "running-target")
    assert node.first_line(installed, "running-target").startswith("SNAPSHOT_RESTORED")
    assert before | {"count": before["count"] + 1} == count(installed, "running-target")


def test_a_pod_that_standby_did_not_start_is_refused_and_goes_on(platform: Platform, installed: Kubectl):
    pod = node.pod("running-cold", "no-such-checkpoint", **FIELDS)
    installed("apply", "-f", "-", stdin=json.dumps(pod))
    node.await_ready(installed, "running-cold")
    before = count(installed, "running-cold")
    words = ("checkpoint", "--pod", "running-cold", "--name", "running-refused", "--wait")
    result = snapshotctl(platform, installed, *words)
    assert 1 == result.exit_code, result.output
    assert AgentReason.NOT_UNDER_STANDBY in result.output
    assert before | {"count": before["count"] + 1} == count(installed, "running-cold")
    described = snapshotctl(platform, installed, "describe", "running-refused")
    assert "captures another worker of the same manifest" in described.output


def test_a_checkpoint_that_the_pod_does_not_name_captures_nothing(installed: Kubectl, serving: str):
    body = node.checkpoint("running-unasked", **FIELDS)
    uid = installed.get("pod", serving)["metadata"]["uid"]
    body["spec"]["source"] = {"podName": serving, "podUID": uid}
    body["spec"]["job"]["activeDeadlineSeconds"] = 10
    installed("apply", "-f", "-", stdin=json.dumps(body))
    status = node.phase(installed, "running-unasked", "Ready", "Failed")["status"]
    assert "Failed" == status["phase"]
    assert f"does not name this checkpoint in annotation {keys.ANN_CAPTURE}" in status["message"]
