"""Open files that a restore gives to criu: in another container, of a worker that goes on, and captured again."""

import json
import os

import pytest

from artifact.manifest import parse_manifest
from tests.support.fixtures.bare_container import PYTHON, BareContainer, wait_for
from tests.support.fixtures.engine import until_ready
from tests.support.fixtures.runc_container import RuncContainer

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: namespaces and criu")

WORKER = """
import hashlib, http.server, json, os, sys, threading
sys.path.insert(0, "/tools")
import snapshot_sdk
(theirs, to), (out, back) = os.pipe(), os.pipe()
program = open("/usr/bin/cat", "rb").read()
m = os.memfd_create("a program", os.MFD_CLOEXEC)
os.write(m, program)
child = os.fork()
if child == 0:
    os.dup2(theirs, 0)
    os.dup2(back, 1)
    os.execve(m, ["cat"], dict(os.environ))
os.close(m)
semaphore = os.eventfd(3, os.EFD_SEMAPHORE)

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        os.write(to, b"hello")
        said = os.read(out, 9).decode()  # by now the child is that program
        taken = os.eventfd_read(semaphore)
        os.eventfd_write(semaphore, taken)
        with open(f"/proc/{child}/exe", "rb") as file:
            same = file.read() == program
        body = json.dumps([said, os.readlink(f"/proc/{child}/exe"), same, taken]).encode()
        self.send_response(200); self.send_header("Content-Length", str(len(body))); self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_):
        pass

server = http.server.ThreadingHTTPServer(("0.0.0.0", 8000), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
print("warm", flush=True)
if sys.argv[1:] != ["goes-on"]:
    snapshot_sdk.quiesce()
threading.Event().wait()
"""
COMMAND = (PYTHON, "-c", WORKER)
ANSWER = ["hello", "/memfd:a program (deleted)", True, 1]


def waiting(node, kind=BareContainer, **options):
    target = node.start_as(kind, "--", PYTHON, "-c", "print('cold', flush=True)", **options)
    target.init()
    return target


def answer(container) -> list[object]:
    return json.loads(wait_for(container.get, "an answer"))


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({}, id="root"),
        pytest.param({"kind": RuncContainer, "user": 65532}, id="a-user-under-a-seccomp-filter"),
    ],
)
async def test_they_are_the_same_in_another_container(node, options, request):
    name = f"given-{request.node.callspec.id}"
    source = node.start_as(options.get("kind", BareContainer), "--capture", "--", *COMMAND, user=options.get("user", 0))
    until_ready(source)
    outcome = await node.capture(source, name)
    assert outcome.ok, outcome.message
    manifest = parse_manifest((node.store / name / "versions/1/manifest.yaml").read_bytes(), name)
    assert (["a program"], 9) == ([each.name for each in manifest.process.programs], manifest.format_version)
    target = waiting(node, **options)
    restored = await node.restore(target, name, outcome.manifest_digest)
    assert restored.ok, restored
    assert ANSWER == answer(target)


async def test_a_worker_that_goes_on_is_captured_again_and_again(node):
    worker = node.start_as(BareContainer, "--serve", "--", *COMMAND, "goes-on")
    assert ANSWER == answer(worker)
    for name in ("given-running", "given-again"):
        outcome = await node.capture_running(worker, name)
        assert outcome.ok, (outcome, worker.text())
        assert ANSWER == answer(worker)
        worker = waiting(node)
        restored = await node.restore(worker, name, outcome.manifest_digest)
        assert restored.ok, restored
        assert ANSWER == answer(worker)
