"""Real pods with open files that a restore gives to criu: restored with them, and when their container starts again."""

from contextlib import suppress

from demo.kubectl import CommandError, Kubectl, wait_for
from tests.node.workers.test_system_v_pods import RESTORED, ask, restarts
from tests.support.fixtures import node
from tests.support.kinds.message_queues import QUEUES

WORKER = f"""
import ctypes, http.server, json, os, secrets, threading
import snapshot_sdk
libc = ctypes.CDLL(None, use_errno=True)
def must(result):
    assert result != -1, os.strerror(ctypes.get_errno())
    return result
{QUEUES}
token = secrets.token_hex(8)
q, semaphore = made(b"/jobs", 4, 64), os.eventfd(3, os.EFD_SEMAPHORE)
put(q, token.encode(), 5)
(theirs, to), (out, back) = os.pipe(), os.pipe()
m = os.memfd_create("a program", os.MFD_CLOEXEC)
os.write(m, open("/usr/bin/cat", "rb").read())
child = os.fork()
if child == 0:
    os.dup2(theirs, 0)
    os.dup2(back, 1)
    os.execve(m, ["cat"], dict(os.environ))
os.close(m)

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/end":
            os._exit(1)
        os.write(to, token.encode())
        text, priority = got(q)
        put(q, text, priority)
        taken = os.eventfd_read(semaphore)
        os.eventfd_write(semaphore, taken)
        found = dict(pid=os.getpid(), token=token, echoed=os.read(out, 16).decode(), queued=text.decode(),
                     priority=priority, taken=taken, program=os.readlink(f"/proc/{{child}}/exe"))
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


def test_a_pod_has_its_files_also_when_its_container_starts_again(installed: Kubectl):
    name = "given-files"
    node.create(installed, node.checkpoint(name, **COMMAND))
    status = node.phase(installed, name, "Ready", "Failed")["status"]
    assert status["phase"] == "Ready", status["message"]
    node.create(installed, node.pod(name, name, readinessProbe=node.probe(), **COMMAND))
    first = node.await_answer(installed, name)
    assert node.first_line(installed, name).startswith(RESTORED)
    assert first["token"] == first["echoed"] == first["queued"]
    assert (5, 1, "/memfd:a program (deleted)") == (first["priority"], first["taken"], first["program"])
    with suppress(CommandError):  # it ends before it answers
        ask(installed, name, "/end")
    wait_for(lambda: restarts(installed, name) == 1, "a restart", node.READY_SECONDS)
    assert first == node.await_answer(installed, name)
    assert node.first_line(installed, name).startswith(RESTORED)
    node.remove(installed, f"pod/{name}", f"dynamocheckpoint/{name}", wait=False)
