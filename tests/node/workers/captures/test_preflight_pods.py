"""A Deployment whose worker a restore would harm: one start, one refusal by name, and its own pods go on."""

import json

from click.testing import CliRunner

from contract.api import keys
from contract.api.states import AgentReason
from demo.kubectl import Kubectl, wait_for
from demo.platform import Platform
from snapshotctl.__main__ import main
from snapshotctl.errors import EXIT_COLD
from tests.node.workers.captures.test_automatic import checkpoints, pods
from tests.support.fixtures import node

WORKER = """
import http.server, os, socket
journal = os.open("/data/journal", os.O_RDWR | os.O_CREAT)
statistics = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
statistics.setsockopt(socket.SOL_IP, 15, 1)  # IP_FREEBIND: no pod has this address
statistics.bind(("192.0.2.9", 8125))
http.server.ThreadingHTTPServer(("", 8000), http.server.SimpleHTTPRequestHandler).serve_forever()
"""
APP = "journal"


def deployment() -> dict:
    container = {
        "name": "main",
        "image": "dynamo-snapshot/demo-worker:dev",
        "command": ["python3", "-c", WORKER],
        "securityContext": {"runAsUser": 0},
        "readinessProbe": {"tcpSocket": {"port": 8000}, "periodSeconds": 1},
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
    }
    volume = {"name": "data", "hostPath": {"path": "/var/lib/journal-of-a-test", "type": "DirectoryOrCreate"}}
    labels = {"app": APP}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": APP},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels | {keys.LABEL_RESTORE: keys.RESTORE_AUTO}},
                "spec": {"terminationGracePeriodSeconds": 1, "containers": [container], "volumes": [volume]},
            },
        },
    }


def test_it_is_refused_once_by_name(installed: Kubectl):
    installed("apply", "-f", "-", stdin=json.dumps(deployment()))

    def failed() -> dict | None:
        found = [each for each in checkpoints(installed, f"Deployment/{APP}").values() if each.get("status")]
        return next((each for each in found if each["status"].get("phase") == "Failed"), None)

    status = wait_for(failed, "a Failed checkpoint", node.CAPTURE_SECONDS)["status"]
    assert 1 == status["attempts"]
    assert "is open for writing on the volume at /data: /data/journal" in status["message"]
    assert f"also {AgentReason.ADDRESS_BOUND}: " in status["message"]
    assert "another start would end the same way" in status["message"]
    (serving,) = pods(installed, APP)
    node.await_ready(installed, serving["metadata"]["name"])


def test_a_look_at_the_running_pod_says_the_same_and_leaves_no_trace(platform: Platform, installed: Kubectl):
    (serving,) = pods(installed, APP)
    name = serving["metadata"]["name"]
    before = serving["metadata"].get("annotations", {})
    where = ["-n", installed.namespace, "--kubeconfig", str(platform.kubeconfig)]
    result = CliRunner().invoke(main, ["preflight", name, "-o", "json", *where])
    assert EXIT_COLD == result.exit_code, result.output
    report = json.loads(result.stdout)
    assert ("main", 1) == (report["container"], report["processes"])
    assert {AgentReason.VOLUME_WRITTEN, AgentReason.ADDRESS_BOUND} == {each["reason"] for each in report["findings"]}
    (serving,) = pods(installed, APP)
    assert before == serving["metadata"].get("annotations", {})
    assert 0 == serving["status"]["containerStatuses"][0]["restartCount"]
    installed("delete", "deployment", APP)


def test_nothing_is_in_the_way_of_the_webhook(platform: Platform, installed: Kubectl):
    """Any pod can be looked at: this one has not opted in, and its worker is the container's first process."""
    names = [pod["metadata"]["name"] for pod in installed.items("pods")]
    webhook = next(name for name in names if name.startswith("snapshot-webhook-"))
    where = ["-n", installed.namespace, "--kubeconfig", str(platform.kubeconfig)]
    result = CliRunner().invoke(main, ["preflight", webhook, *where])
    assert 0 == result.exit_code, result.output
    assert "nothing is in the way of a capture" in result.stdout
