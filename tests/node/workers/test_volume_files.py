"""Workers whose files come from their pod: kubelet's dated folders are found again, and what the new pod has counts."""

from contextlib import suppress
from typing import Any

import pytest

from contract.api import keys
from contract.api.states import AgentReason
from demo.kubectl import CommandError, Kubectl
from tests.support.fixtures import node

RESTORED = "SNAPSHOT_RESTORED: container restored from checkpoint"
MODE = "dated-files"
# Run by sh, which keeps it open at the place that it has come to, and reads on once Python has ended.
START = "echo preparing\npython3 /scripts/server.py\necho server ended with $?\nexit 7\n"
SERVER = """
import http.server, json, mmap, os
index = mmap.mmap(os.open("/scripts/index", os.O_RDONLY), 0, prot=mmap.PROT_READ)
token = open("/var/run/secrets/own/token")
token.read()
folder = os.open("/about", os.O_RDONLY)
os.chdir("/scripts/..data")
for where in ("/cache", "/memory"):
    os.makedirs(where + "/warm")
    with open(where + "/warm/model.txt", "w") as file:
        file.write("prepared in the warm up")
    state = open(where + "/state", "w+")
    state.write("of the worker"); state.flush()
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/end":
            os._exit(0)
        read = lambda path: open(path).read()
        said = {
            "index": index[:5].decode(), "here": sorted(os.listdir(".")), "names": sorted(os.listdir("/scripts")),
            "pod": read("/about/name"), "settings": read("/scripts/settings"),
            "cache": read("/cache/warm/model.txt"), "memory": read("/memory/warm/model.txt"),
            "credentials": read("/cache/credentials"), "state": read("/cache/state"),
        }
        body = json.dumps(said).encode()
        self.send_response(200); self.send_header("Content-Length", str(len(body))); self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_): pass
http.server.ThreadingHTTPServer(("", 8000), Handler).serve_forever()
"""
INIT = """
import os
with open("/cache/credentials", "w") as file:
    file.write("of " + os.environ["POD"])
"""
FILES = {"start.sh": START, "server.py": SERVER, "index": "index of the files", "settings": "first"}

Json = dict[str, Any]


def config_map(name: str, **files: str) -> Json:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": FILES | files}


def secret(name: str) -> Json:
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": {"token": "of the tests"}}


def fields() -> Json:
    mounts = {"scripts": "/scripts", "secret": "/var/run/secrets/own", "about": "/about", "cache": "/cache",
              "memory": "/memory"}  # fmt: skip
    return {
        "command": ["sh", "/scripts/start.sh"],
        "readinessProbe": node.probe(),
        "volumeMounts": [{"name": name, "mountPath": path} for name, path in mounts.items()],
    }


def spec(name: str) -> Json:
    """Return what of a pod's spec is beside its worker."""
    about = {"path": "name", "fieldRef": {"fieldPath": "metadata.name"}}
    return {
        "volumes": [
            {"name": "scripts", "configMap": {"name": name}},
            {"name": "secret", "projected": {"sources": [{"secret": {"name": name}}]}},
            {"name": "about", "downwardAPI": {"items": [about]}},
            {"name": "cache", "emptyDir": {}},
            {"name": "memory", "emptyDir": {"medium": "Memory"}},
        ],
        "initContainers": [
            node.container(
                name="credentials",
                command=["python3", "-c", INIT],
                env=[{"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
                volumeMounts=[{"name": "cache", "mountPath": "/cache"}],
            )
        ],
    }


def checkpoint(name: str) -> Json:
    made = node.checkpoint(name, **fields())
    made["spec"]["job"]["readySignal"] = "Probe"
    made["spec"]["job"]["podTemplateSpec"]["spec"] |= spec(name)
    return made


def pod(name: str, checkpoint_name: str) -> Json:
    made = node.pod(name, checkpoint_name, **fields())
    made["spec"] |= spec(checkpoint_name)
    return made


@pytest.fixture(scope="module")
def captured(installed: Kubectl) -> Kubectl:
    for made in (config_map(MODE), secret(MODE), checkpoint(MODE)):
        node.create(installed, made)
    status = node.phase(installed, MODE, "Ready", "Failed")["status"]
    assert status["phase"] == "Ready", status["message"]
    return installed


def test_the_new_pods_files_are_what_the_worker_sees(captured: Kubectl):
    node.create(captured, pod("dated-first", MODE))
    said = node.await_answer(captured, "dated-first")
    assert node.first_line(captured, "dated-first").startswith(RESTORED)
    assert said["index"] == "index"
    assert said["here"] == sorted(FILES)
    assert [name for name in said["names"] if not name.startswith("..20")] == ["..data", *sorted(FILES)]
    assert len(said["names"]) == len(FILES) + 2
    assert said["pod"] == "dated-first"
    assert said["cache"] == said["memory"] == "prepared in the warm up"
    assert said["credentials"] == "of dated-first"
    assert said["state"] == "of the worker"


def test_the_shell_reads_on_in_its_script(captured: Kubectl):
    """It was in the middle of it."""
    node.create(captured, pod("dated-shell", MODE))
    node.await_answer(captured, "dated-shell")
    with suppress(CommandError):  # it ends without an answer
        captured("get", "--raw", f"/api/v1/namespaces/{captured.namespace}/pods/dated-shell:8000/proxy/end")
    captured("wait", "--for=jsonpath={.status.containerStatuses[0].restartCount}=1", "pod/dated-shell", "--timeout=60s")
    said = captured("logs", "dated-shell", "-c", "main", "--previous")
    assert "server ended with 0" in said


def test_a_closed_file_may_change_and_an_open_one_may_not(captured: Kubectl):
    """A changed setting is seen; a changed script, which the shell has open, is a cold start with the new one."""
    captured("patch", "configmap", MODE, "-p", '{"data": {"settings": "second"}}')
    node.create(captured, pod("dated-settings", MODE))
    assert node.await_answer(captured, "dated-settings")["settings"] == "second"
    assert node.first_line(captured, "dated-settings").startswith(RESTORED)
    captured("patch", "configmap", MODE, "-p", '{"data": {"start.sh": "exec python3 /scripts/server.py"}}')
    node.create(captured, pod("dated-changed", MODE))
    node.await_answer(captured, "dated-changed")
    report = node.reported(captured, "dated-changed")["metadata"]["annotations"][keys.ANN_RESTORE_REPORT]
    assert AgentReason.VOLUME_FILE_CHANGED in report
    assert "/scripts/..data/start.sh" in node.first_line(captured, "dated-changed")
