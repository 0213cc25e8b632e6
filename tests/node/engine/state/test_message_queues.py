"""POSIX message queues around captures and restores: whose they are, what fails, and what is left in the pod."""

import json
import os
import subprocess
import sys

import pytest

from agent.container.network import in_namespace
from agent.executor import engine as engine_module
from agent.executor.restore.phases import RESTORE
from artifact.manifest import parse_manifest
from contract.api.reports import ReportPhase
from contract.api.states import AgentReason
from linux.ipc import mqueue
from tests.node.engine.failures.test_failing_phases import failing
from tests.support.fixtures.bare_container import PYTHON, BareContainer, wait_for
from tests.support.fixtures.dying_agent import die_after
from tests.support.fixtures.engine import COLD, until_ready
from tests.support.fixtures.runc_container import RuncContainer
from tests.support.fixtures.tools import PROJECT
from tests.support.kinds.message_queues import QUEUES

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: namespaces and criu")

WORKER = f"""
import ctypes, http.server, json, os, sys, threading
sys.path.insert(0, "/tools")
import snapshot_sdk
libc = ctypes.CDLL(None, use_errno=True)
def must(result):
    if result == -1:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result
{QUEUES}
q = made(b"/jobs", 4, 128)
put(q, b"captured", 5)

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        text, priority = got(q)
        put(q, text, priority)
        body = json.dumps([text.decode(), priority, *about(q)]).encode()
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
STAYS = (PYTHON, "-c", "import time; print('cold', flush=True); time.sleep(60)")
ANSWER = ["captured", 5, 0, 4, 128, 1]


def ready(node, kind=BareContainer, **options):
    source = node.start_as(kind, "--capture", "--", *COMMAND, **options)
    until_ready(source)
    return source


def waiting(node, kind=BareContainer, **options):
    target = node.start_as(kind, "--", *STAYS, **options)
    target.init()
    return target


def queues(container, init=None) -> list[str]:
    return in_namespace("ipc", init or container.init(), lambda: [each.name for each in mqueue.queues()])


async def sealed(node, name, **options) -> str:
    outcome = await node.capture(ready(node, **options), name)
    assert outcome.ok, outcome.message
    return outcome.manifest_digest


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({}, id="root"),
        pytest.param({"kind": RuncContainer, "user": 65532}, id="a-user-under-a-seccomp-filter"),
    ],
)
async def test_a_worker_has_its_queue_in_another_pod(node, options, request):
    name = f"queues-{request.node.callspec.id}"
    digest = await sealed(node, name, **options)
    manifest = parse_manifest((node.store / name / "versions/1/manifest.yaml").read_bytes(), name)
    assert ("posix-queues.json", 9) == (manifest.posix_queues, manifest.format_version)
    target = waiting(node, **options)
    outcome = await node.restore(target, name, digest)
    assert outcome.ok, outcome
    assert ReportPhase.IPC in outcome.seconds
    assert ANSWER == json.loads(wait_for(target.get, "an answer"))
    assert ANSWER == json.loads(target.get())


CROWD = f"""
import ctypes, os, sys
def must(result):
    if result == -1:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result
{QUEUES}
for size in (8192, 1024, 128, 16, 1):
    try:
        for number in range(1000):
            rt.mq_close(made(b"/%d-%d" % (size, number), 10 if size > 1 else 1, size))
    except OSError:
        pass
print("full", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def crowd():
    """Have another IPC namespace with as many queues as the limits of this node's root leave room for."""
    command = ["unshare", "--ipc", sys.executable, "-c", CROWD]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=PROJECT) as process:
        assert b"full\n" == process.stdout.readline()
        yield
        process.stdin.close()


@pytest.mark.usefixtures("crowd")
async def test_queues_of_other_pods_leave_room(node):
    """The kernel counts them by user, on the whole node, and all that are restored are made by the agent's."""
    options = {"kind": RuncContainer, "user": 65532}
    digest = await sealed(node, "queues-crowd", **options)
    target = waiting(node, **options)
    outcome = await node.restore(target, "queues-crowd", digest)
    assert outcome.ok, outcome
    assert ANSWER == json.loads(wait_for(target.get, "an answer"))


def make(name: str, most: int = 1) -> None:
    mqueue.make(mqueue.QueueState(name, 0o600, 0, 0, most, 8, [(0, b"theirs")]), lambda _: None)


async def test_a_name_that_is_taken_leads_to_a_cold_start(node):
    digest = await sealed(node, "queues-taken")
    target = waiting(node)
    in_namespace("ipc", target.init(), lambda: make("jobs"))
    outcome = await node.restore(target, "queues-taken", digest)
    assert (False, AgentReason.SYSV_IPC_TAKEN) == (outcome.ok, outcome.reason), outcome
    assert "the pod has the POSIX message queue jobs already" in outcome.message
    target.says("cold")
    assert COLD in target.text()
    left = in_namespace("ipc", target.first_process(), lambda: mqueue.take("jobs"))
    assert [(0, b"theirs")] == list(left.messages)


@pytest.mark.parametrize("phase", [ReportPhase.IPC, ReportPhase.ENTER, ReportPhase.LOOK])
async def test_a_restore_that_fails_leaves_none(node, monkeypatch, phase):
    name = f"queues-undone-{phase}"
    digest = await sealed(node, name)
    target = waiting(node)
    (number,) = [n for n, each in enumerate(RESTORE) if each.name == phase]
    monkeypatch.setattr(engine_module, "RESTORE", failing(RESTORE, number))
    outcome = await node.restore(target, name, digest)
    assert "injected" in outcome.message, outcome
    target.says("cold")
    assert [] == queues(target, target.first_process())
    assert not list(target.volumes.rglob(".ipc-*"))


@pytest.mark.parametrize("phase", [ReportPhase.IPC, ReportPhase.ENTER, ReportPhase.LOOK])
async def test_a_restore_that_was_cut_off_is_done_again(node, phase):
    name = f"queues-killed-{phase}"
    digest = await sealed(node, name)
    target = waiting(node)
    die_after(phase, node, target, name, digest)
    outcome = await node.restore(target, name, digest)
    assert outcome.ok, outcome
    assert ANSWER == json.loads(wait_for(target.get, "an answer"))


@pytest.fixture
def another():
    """Have a process of another container of the pod."""
    started = []

    def start(container) -> None:
        entering = ["nsenter", "-t", str(container.init()), "-i", "unshare", "--pid", "--fork", "--kill-child"]
        started.append(subprocess.Popen([*entering, "sleep", "600"]))

    yield start
    for process in started:
        process.kill()
        process.wait()


async def test_one_that_another_container_may_have_is_refused(node, another):
    source = ready(node)
    another(source)
    outcome = await node.capture(source, "queues-shared")
    assert (False, AgentReason.MESSAGE_QUEUE) == (outcome.ok, outcome.reason)
    assert "which another container may have too" in outcome.message
    assert "dump" not in outcome.seconds


@pytest.mark.parametrize(
    ("times", "is_kept"), [pytest.param(127, True, id="many"), pytest.param(128, False, id="more")]
)
async def test_as_many_open_files_of_queues_are_kept_as_criu_can_be_given(node, times, is_kept):
    """A file that several processes have is one."""
    opens = f"more = [must(rt.mq_open(b'/jobs', os.O_RDWR)) for _ in range({times})]\nchild = os.fork()\n"
    waits = "if child == 0:\n    threading.Event().wait()\n"
    script = WORKER.replace("\nclass Handler", f"\n{opens}{waits}\nclass Handler")
    source = node.start_as(BareContainer, "--capture", "--", PYTHON, "-c", script)
    until_ready(source)
    outcome = await node.capture(source, f"queues-open-{times}")
    assert is_kept == outcome.ok, outcome.message
    if not is_kept:
        assert AgentReason.MESSAGE_QUEUE == outcome.reason
        assert "has POSIX message queues open 129 times: at most 128 can be kept" in outcome.message
        assert ANSWER == json.loads(wait_for(lambda: source.ask(source.first_process()), "an answer"))


async def test_a_worker_that_goes_on_keeps_it_and_is_not_captured(node):
    worker = node.start_as(BareContainer, "--serve", "--", *COMMAND, "goes-on")
    worker.says("warm")
    outcome = await node.capture_running(worker, "queues-running")
    assert (False, AgentReason.MESSAGE_QUEUE) == (outcome.ok, outcome.reason)
    assert "which is kept only of a worker that ends" in outcome.message
    assert ANSWER == json.loads(wait_for(worker.get, "an answer"))
