"""Real pods with System V objects: restored with them, and again when their container starts again."""

from contextlib import suppress
from typing import Any

from demo.kubectl import CommandError, Kubectl, wait_for
from tests.support.fixtures import node
from tests.support.kinds.system_v import CALLS

RESTORED = "SNAPSHOT_RESTORED: container restored from checkpoint"
WORKER = f"""
import ctypes, http.server, json, os, secrets, struct, threading
import snapshot_sdk
libc = ctypes.CDLL(None, use_errno=True)
def must(result):
    assert result != -1, os.strerror(ctypes.get_errno())
    return result
{CALLS}
token = secrets.token_hex(8)
i, s = must(libc.shmget(0x1234, 65536, CREATE)), must(libc.semget(0x1235, 1, CREATE))
q = must(libc.msgget(0x1236, CREATE))
must(libc.semget(0x1237, 1, CREATE))  # not used: known to be its own, as no other container is in the pod
a = attached(i)
ctypes.memmove(a, token.encode(), 16)
operate(s, (0, 3, 0))
must(send(q, 5, token.encode()))
if os.fork() == 0:
    while operate(s, (0, -4, 0)) == 0:
        must(send(q, 6, ctypes.string_at(a, 16)))

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/end":
            os._exit(1)
        if self.path == "/ask":
            operate(s, (0, 1, 0))
            receive(q, 6)
            operate(s, (0, 3, 0))
        found = dict(pid=os.getpid(), token=token, memory=ctypes.string_at(a, 16).decode(), ids=[i, s, q],
                     value=must(libc.semctl(s, 0, 12)), messages=rows("msg")[0]["qnum"])
        body = json.dumps(found).encode()
        self.send_response(200); self.send_header("Content-Length", str(len(body))); self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_):
        pass

server = http.server.ThreadingHTTPServer(("", 8000), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
snapshot_sdk.quiesce()
threading.Event().wait()
"""
COMMAND = {"command": ["python3", "-c", WORKER]}


def ask(kubectl: Kubectl, name: str, path: str) -> None:
    kubectl("get", "--raw", f"/api/v1/namespaces/{kubectl.namespace}/pods/{name}:8000/proxy{path}")


def restarts(kubectl: Kubectl, name: str) -> int:
    """Count the starts of the pod's container after the first."""
    statuses: list[dict[str, Any]] = kubectl.get("pod", name)["status"].get("containerStatuses", [])
    return sum(each["restartCount"] for each in statuses)


def test_a_pod_has_its_objects_also_when_its_container_starts_again(installed: Kubectl):
    name = "system-v"
    node.create(installed, node.checkpoint(name, **COMMAND))
    status = node.phase(installed, name, "Ready", "Failed")["status"]
    assert status["phase"] == "Ready", status["message"]
    node.create(installed, node.pod(name, name, readinessProbe=node.probe(), **COMMAND))
    first = node.await_answer(installed, name)
    assert node.first_line(installed, name).startswith(RESTORED)
    assert first["memory"] == first["token"]
    assert ([0, 0, 0], 3, 1) == (first["ids"], first["value"], first["messages"])
    ask(installed, name, "/ask")  # the child that waited for semaphores goes on
    with suppress(CommandError):  # it ends before it answers
        ask(installed, name, "/end")
    wait_for(lambda: restarts(installed, name) == 1, "a restart", node.READY_SECONDS)
    assert first == node.await_answer(installed, name)
    assert node.first_line(installed, name).startswith(RESTORED)
    node.remove(installed, f"pod/{name}", f"dynamocheckpoint/{name}", wait=False)
