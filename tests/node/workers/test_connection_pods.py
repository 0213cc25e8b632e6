"""Real pods that are connected to themselves, to the API server or to a sidecar, and probed while busy."""

import json

from contract.api import keys
from demo.kubectl import Kubectl, wait_for
from tests.node.workers.captures.test_automatic import checkpoints, pods, ready, shaped
from tests.support.fixtures import node

SERVE = """
import http.server, json, os, socket, threading, time
def serve(state):
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            body = json.dumps(state()).encode()
            self.send_response(200); self.send_header("Content-Length", str(len(body))); self.end_headers()
            self.wfile.write(body)
        def log_message(self, *_):
            pass
    http.server.ThreadingHTTPServer(("", 8000), Handler).serve_forever()
"""
CONNECTED = (
    SERVE
    + """
listener = socket.create_server(("127.0.0.1", 0))
if os.fork() == 0:
    there = socket.create_connection(listener.getsockname())
    listener.close()
    while asked := there.recv(64):
        there.sendall(b"pong " + asked)
    os._exit(0)
engine, _ = listener.accept()
engine.settimeout(5)
outside = socket.create_connection((os.environ["KUBERNETES_SERVICE_HOST"], os.environ["KUBERNETES_SERVICE_PORT"]))
outside.settimeout(5)
busy = socket.create_server(("0.0.0.0", 7100))
def work():
    while True:
        time.sleep(3); busy.accept()[0].close()
threading.Thread(target=work, daemon=True).start()
own = socket.create_server((socket.gethostbyname(socket.gethostname()), 9100))
lock, count = threading.Lock(), 0
def state():
    global count
    with lock:
        count += 1
        engine.sendall(b"%d" % count)
        return {"engine": engine.recv(64).decode(), "count": count, "listening": own.getsockname()[0]}
serve(state)
"""
)
SIDECAR = """
import os, socket
server = socket.socket(socket.AF_UNIX); server.bind("/shared/side.sock"); os.chmod("/shared/side.sock", 0o777)
server.listen()
while True:
    client, _ = server.accept()
    while got := client.recv(64):
        client.sendall(got)
"""
CLIENT = (
    SERVE
    + """
while True:
    try:
        side = socket.socket(socket.AF_UNIX); side.connect("/shared/side.sock"); break
    except OSError:
        time.sleep(0.1)
serve(dict)
"""
)
SHARED = {"volumeMounts": [{"name": "shared", "mountPath": "/shared"}]}


def container(name: str, script: str, **fields) -> dict:
    usual = {"image": "dynamo-snapshot/demo-worker:dev", "command": ["python3", "-c", script]}
    return {"name": name} | usual | fields


def deployment(app: str, *containers: dict) -> dict:
    labels = {"app": app}
    notes = {"kubectl.kubernetes.io/default-container": "main"}
    template = {
        "metadata": {"labels": labels | {keys.LABEL_RESTORE: keys.RESTORE_AUTO}, "annotations": notes},
        "spec": {
            "terminationGracePeriodSeconds": 1,
            "containers": list(containers),
            "volumes": [{"name": "shared", "emptyDir": {}}],
        },
    }
    spec = {"selector": {"matchLabels": labels}, "template": template}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": app}, "spec": spec}


def test_it_goes_on_with_its_own_process_and_without_the_others(installed: Kubectl):
    probes = {"readinessProbe": node.probe(), "livenessProbe": {"tcpSocket": {"port": 7100}, "periodSeconds": 1}}
    installed("apply", "-f", "-", stdin=json.dumps(deployment("connected", container("main", CONNECTED, **probes))))
    (name,) = ready(installed, "Deployment/connected")
    installed("scale", "deployment/connected", "--replicas=2")
    (pod,) = shaped(installed, "connected", name, 1)
    said = node.await_answer(installed, pod["metadata"]["name"])
    assert f"pong {said['count']}" == said["engine"]
    assert installed.get("pod", pod["metadata"]["name"])["status"]["podIP"] == said["listening"]

    found = node.reported(installed, pod["metadata"]["name"])["metadata"]["annotations"]
    connections = json.loads(found[keys.ANN_RESTORE_REPORT])["connections"]
    assert 1 == connections["kept"]
    assert 1 <= connections["closed"]
    assert any(peer.endswith(":443") for peer in connections["peers"])
    node.described(installed, "pod", pod["metadata"]["name"], "TCP connection", "closed (")
    installed("delete", "deployment", "connected")


def test_a_sidecar_that_it_is_connected_to_is_named_after_one_start(installed: Kubectl):
    worker = container("main", CLIENT, readinessProbe=node.probe(), **SHARED)
    body = deployment("connected-sidecar", worker, container("side", SIDECAR, **SHARED))
    installed("apply", "-f", "-", stdin=json.dumps(body))

    def failed() -> dict | None:
        found = checkpoints(installed, "Deployment/connected-sidecar").values()
        return next((each for each in found if each.get("status", {}).get("phase") == "Failed"), None)

    status = wait_for(failed, "a Failed checkpoint", node.CAPTURE_SECONDS)["status"]
    assert 1 == status["attempts"]
    assert "by Unix socket /shared/side.sock" in status["message"]
    assert "another start would end the same way" in status["message"]
    (serving,) = pods(installed, "connected-sidecar")
    node.await_ready(installed, serving["metadata"]["name"])
    installed("delete", "deployment", "connected-sidecar")
