"""A worker asks for its own capture, as the guides' example does, and goes on; later pods are restored from it."""

import json

import pytest
from click.testing import CliRunner

from contract.api import keys
from contract.api.states import Admission
from demo.kubectl import Kubectl, wait_for
from demo.platform import Platform
from snapshotctl.__main__ import main
from tests.node.workers.captures.test_automatic import checkpoints, pods
from tests.support.fixtures import node

APP = "asks-itself"
WORKER = """
import http.client, http.server, json, threading, urllib.request
import snapshot_sdk
state = {"count": 0, "answer": None, "sdk": None, "hooks": 0}
def hook():
    state["hooks"] += 1
snapshot_sdk.on_restore(hook)
def ask():
    request = urllib.request.Request("http://169.254.169.253:8234/checkpoint", method="POST")
    try:
        with urllib.request.urlopen(request, timeout=300) as response:
            state["answer"] = json.loads(response.read())
    except (http.client.RemoteDisconnected, ConnectionResetError) as error:
        state["answer"] = {"status": type(error).__name__}
def ask_by_sdk():
    state["sdk"] = snapshot_sdk.checkpoint()
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        state["count"] += self.path == "/count"
        for path, act in (("/ask", ask), ("/sdk", ask_by_sdk)):
            if self.path == path:
                threading.Thread(target=act).start()
        body = json.dumps(state).encode()
        self.send_response(200); self.send_header("Content-Length", str(len(body))); self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_):
        pass
http.server.ThreadingHTTPServer(("", 8000), Handler).serve_forever()
"""
ASK = """
import urllib.request
request = urllib.request.Request("http://169.254.169.253:8234/checkpoint", method="POST")
print(urllib.request.urlopen(request, timeout=60).read().decode())
"""


def deployment() -> dict:
    labels = {"app": APP}
    opted_in = labels | {keys.LABEL_TRIGGER: "true"}
    side = node.container(name="side", command=["sleep", "1000000"])
    spec = {"terminationGracePeriodSeconds": 1, "containers": [node.container(command=["python3", "-c", WORKER]), side]}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": APP},
        "spec": {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": opted_in}, "spec": spec}},
    }


def get(kubectl: Kubectl, name: str, path: str = "") -> dict:
    return json.loads(kubectl("get", "--raw", f"/api/v1/namespaces/{kubectl.namespace}/pods/{name}:8000/proxy/{path}"))


def answered(kubectl: Kubectl, name: str, how: str = "answer") -> dict:
    return wait_for(lambda: get(kubectl, name)[how], f"an answer in pod {name}", node.CAPTURE_SECONDS)


@pytest.fixture(scope="module")
def first(installed: Kubectl) -> str:
    """Name of the pod whose worker asks."""
    installed("apply", "-f", "-", stdin=json.dumps(deployment()))
    pod = wait_for(lambda: next(iter(pods(installed, APP)), None), "a pod", node.READY_SECONDS)
    node.await_answer(installed, pod["metadata"]["name"])
    return pod["metadata"]["name"]


def test_no_job_captures_it_and_a_container_beside_it_may_not_ask(installed: Kubectl, first: str):
    notes = installed.get("pod", first)["metadata"]["annotations"]
    assert Admission.CAPTURABLE == notes[keys.ANN_ADMISSION]
    answer = json.loads(installed("exec", first, "-c", "side", "--", "python3", "-c", ASK))
    assert "failed" == answer["status"]
    assert "only a process of container main may ask" in answer["reason"]
    assert {} == checkpoints(installed, f"Deployment/{APP}")


def test_it_is_captured_when_it_asks_and_goes_on(installed: Kubectl, first: str):
    for _ in range(3):
        get(installed, first, "count")
    get(installed, first, "ask")
    answer = answered(installed, first)
    notes = installed.get("pod", first)["metadata"]["annotations"]
    status = installed.get("dynamocheckpoint", notes[keys.ANN_CHECKPOINT])["status"]
    found = (answer["status"], answer["reason"], answer["checkpoint"], answer["id"])
    assert ("created", "", notes[keys.ANN_CHECKPOINT], status["checkpointID"]) == found
    assert 4 == get(installed, first, "count")["count"]
    node.phase(installed, notes[keys.ANN_CHECKPOINT], "Ready")
    get(installed, first, "sdk")
    again = answered(installed, first, "sdk")
    assert ("skipped", "exists", answer["id"]) == (again["status"], again["reason"], again["id"])


def test_the_next_pod_is_restored_and_its_request_has_ended(installed: Kubectl, first: str):
    installed("scale", "deployment", APP, "--replicas=2")
    both = wait_for(lambda: len(found := pods(installed, APP)) == 2 and found, "two pods", node.READY_SECONDS)
    (name,) = {pod["metadata"]["name"] for pod in both} - {first}
    node.await_answer(installed, name)
    assert node.first_line(installed, name).startswith("SNAPSHOT_RESTORED")
    assert answered(installed, name)["status"] in ("RemoteDisconnected", "ConnectionResetError")
    wait_for(lambda: get(installed, name)["hooks"], "the hook", node.READY_SECONDS)
    found = get(installed, name)
    assert (3, 1) == (found["count"], found["hooks"])
    assert 0 == get(installed, first)["hooks"]
    installed("delete", "deployment", APP)


def test_a_person_asks_in_its_place(platform: Platform, installed: Kubectl):
    """Without a name the checkpoint is that of the template, which the controller makes as soon as the pod asks."""
    spec = deployment()["spec"]["template"]
    spec["spec"]["containers"][0]["env"] = [{"name": "ASKED_BY", "value": "person"}]
    metadata = {"name": "asked-for"} | spec["metadata"]
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec["spec"]}
    installed("apply", "-f", "-", stdin=json.dumps(pod))
    node.await_answer(installed, "asked-for")
    get(installed, "asked-for", "count")
    where = ["-n", installed.namespace, "--kubeconfig", str(platform.kubeconfig)]
    result = CliRunner().invoke(main, ["checkpoint", "--pod", "asked-for", "--wait", *where])
    assert 0 == result.exit_code, result.output
    notes = installed.get("pod", "asked-for")["metadata"]["annotations"]
    assert f"name={notes[keys.ANN_CHECKPOINT]}\n" in result.stdout
    installed("apply", "-f", "-", stdin=json.dumps(pod | {"metadata": metadata | {"name": "asked-for-next"}}))
    node.await_answer(installed, "asked-for-next")
    assert node.first_line(installed, "asked-for-next").startswith("SNAPSHOT_RESTORED")
    assert 1 == get(installed, "asked-for-next")["count"]
