"""A worker that says by the ready file when it is to be captured: not kubelet asks its probe, but the proof."""

import pytest

from demo.kubectl import Kubectl, wait_for
from tests.support.fixtures import node

NAME = "ready-file"
WORKER = """
import http.server, threading, snapshot_sdk
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        print("asked for", self.path, flush=True)
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()
    def log_message(self, *_):
        pass
snapshot_sdk.quiesce()
http.server.ThreadingHTTPServer(("", 8000), Handler).serve_forever()
"""


@pytest.fixture(scope="module")
def captured(installed: Kubectl) -> Kubectl:
    probe = {"httpGet": {"path": "/health", "port": "web"}, "periodSeconds": 1}
    ports = [{"name": "web", "containerPort": 8000}]
    body = node.checkpoint(NAME, command=["python3", "-c", WORKER], readinessProbe=probe, ports=ports)
    node.create(installed, body)
    node.phase(installed, NAME, "Ready", "Failed")
    return installed


def test_its_own_probe_is_asked_in_the_proof(captured: Kubectl):
    """It listens only once it goes on, so the proof must have asked."""
    job = captured.get("dckpt", NAME)["status"]["jobName"]
    (pod,) = captured.pods(f"job-name={job}")
    log = wait_for(lambda: captured("logs", pod["metadata"]["name"], "-c", "main"), "the log", node.READY_SECONDS)
    assert "asked for /health" in log
