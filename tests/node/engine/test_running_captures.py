"""A running worker is captured and goes on: what it answers, how long it is silent, what is left if a phase fails."""

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterator

import pytest

from agent.container.network import in_network
from agent.executor import engine as engine_module
from agent.executor.capture.running import RUNNING
from agent.executor.engine import NodeEngine
from contract.api import control_files
from contract.api.reports import ReportPhase
from contract.api.states import AgentReason
from linux.proc import descendants, namespace_mates
from tests.node.engine.devices.test_gpu_workers import gpu, library, states  # noqa: F401 - fixtures
from tests.node.engine.devices.test_gpu_workers import node as gpu_node  # noqa: F401 - as above
from tests.node.engine.failures.test_failing_phases import each, failing
from tests.support import stand_in_cuda
from tests.support.fixtures.bare_container import PYTHON, WORKER_COMMAND, BareContainer, wait_for
from tests.support.fixtures.dying_agent import die_after
from tests.support.fixtures.engine import Node

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: namespaces and criu")

LONGEST_SILENCE = 2.0
"""Seconds."""
START = """
import ctypes, http.server, json, os, signal, socket, subprocess, sys, threading, time
state = {"count": 0, "silence": 0.0}
log = open("/var/tmp/counter.log", "w+")
sleeper, stopped = (subprocess.Popen(["sleep", "1000000"]) for _ in range(2))
os.kill(stopped.pid, signal.SIGSTOP)

def beat():
    last = time.monotonic()
    while True:
        time.sleep(0.005)
        now = time.monotonic()
        state["silence"], last = max(state["silence"], now - last), now

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        if self.path == "/count":
            state["count"] += 1
            log.seek(0); log.write(str(state["count"])); log.flush()
        if self.path == "/forget":
            state["silence"] = 0.0
        log.seek(0)
        how = open(f"/proc/{stopped.pid}/stat").read().split()[2]
        body = json.dumps(state | {"file": log.read(), "child": sleeper.poll(), "stopped": how}).encode()
        self.send_response(200); self.send_header("Content-Length", str(len(body))); self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_):
        pass

threading.Thread(target=beat, daemon=True).start()
server = http.server.ThreadingHTTPServer(("0.0.0.0", 8000), Handler)
"""
SERVE = """
print("serves", flush=True)
server.serve_forever()
"""
ONLY_SOME_WORKERS = (ReportPhase.CANARY, ReportPhase.GPU_SAVE, ReportPhase.WEIGHTS)
"""Phases that these workers do not need."""
IO_URING = "ctypes.CDLL(None).syscall(425, 8, ctypes.create_string_buffer(120))\n"
OTHER_NAMES = """
kept = []
for folder in ("/var/tmp", "/dev/shm", "/scratch"):
    kept.append(open(f"{folder}/first", "w"))
    os.link(f"{folder}/first", f"{folder}/second")
    os.unlink(f"{folder}/first")
    kept[-1].write("words")
    kept[-1].flush()
import multiprocessing
lock = multiprocessing.get_context("spawn").Lock()
"""
GHOSTS = """
ghosts = []
for _ in range(100):
    ghosts.append(open("/var/tmp/ghost", "w"))
    os.unlink("/var/tmp/ghost")
"""
LEASE = """
import fcntl
leased = open("/scratch/leased", "w")
fcntl.fcntl(leased, fcntl.F_SETLEASE, fcntl.F_WRLCK)
"""
SHELLS = """
def wait_as_a_shell_does():
    child = os.fork()
    if child == 0:
        time.sleep(1000000)
    os.waitpid(child, os.WUNTRACED)
    open(f"/var/tmp/stopped-{os.getpid()}", "w").close()
    os._exit(0)
for _ in range(8):
    if os.fork() == 0:
        wait_as_a_shell_does()
"""
FORKS = """
def fork(*_):
    for _ in range(10):
        if os.fork() == 0:
            signal.signal(signal.SIGUSR1, signal.SIG_IGN)
            time.sleep(1000000)
    print("forked", flush=True)
signal.signal(signal.SIGUSR1, fork)
"""
PROBES = """
import subprocess, time
print("up", flush=True)
while True:
    subprocess.Popen(["sleep", "1"])
    time.sleep(0.02)
"""
POLLS = """
import struct
libc = ctypes.CDLL(None)
readable, writable = os.pipe()
asked = struct.pack("iHH", readable, 1, 0)
ends = []
thread = threading.Thread(target=lambda: ends.append(libc.poll(asked, 1, -1)))
thread.start()
child = os.fork()  # its call is as of musl, and of glibc since 2.41
if child == 0:
    os._exit(libc.syscall(ctypes.c_long(7), asked, ctypes.c_long(1), ctypes.c_long(-1)))
def end(*_):
    os.write(writable, b"x")
    thread.join()
    print("polled", *ends, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
signal.signal(signal.SIGUSR1, end)
"""
NESTED = """
if os.fork() == 0:
    for _ in range(29):
        if os.fork():
            break
    time.sleep(1000000)
"""
OPEN_AND_NAMED = """
for folder in /var/tmp /dev/shm /scratch; do
  for file in /proc/[0-9]*/fd/*; do
    [ "$(stat -Lc %d:%i $file 2>/dev/null)" != "$(stat -c %d:%i $folder/second)" ] || readlink $file
  done
  cat $folder/second
  echo
done
ls /var/tmp /dev/shm /scratch
"""


def serving(node: Node, more: str = "", **options) -> BareContainer:
    worker = node.start_as(BareContainer, "--serve", "--", PYTHON, "-c", START + more + SERVE, **options)
    worker.says("serves")
    wait_for(worker.get, "an answer")
    return worker


async def restored(node: Node, checkpoint_id: str, digest: str) -> BareContainer:
    target = node.start_as(BareContainer, "--", PYTHON, "-c", START + SERVE)
    target.init()
    outcome = await node.restore(target, checkpoint_id, digest)
    assert outcome.ok, outcome
    return target


def said(container: BareContainer, path: str = "/") -> dict:
    return json.loads(wait_for(lambda: container.get(path), "an answer"))


def facts(container: BareContainer) -> tuple:
    found = said(container)
    return tuple(found[key] for key in ("count", "file", "child", "stopped"))


async def test_the_worker_goes_on_and_another_is_restored_from_it(node):
    source = serving(node)
    for _ in range(3):
        said(source, "/count")
    said(source, "/forget")
    outcome = await node.capture_running(source, "running-goes-on")
    assert outcome.ok, outcome
    assert said(source)["silence"] < LONGEST_SILENCE
    said(source, "/count")
    assert (4, "4", None, "T") == facts(source)
    assert not (source.control / control_files.FROZEN).exists()
    target = await restored(node, "running-goes-on", outcome.manifest_digest)
    assert (3, "3", None, "T") == facts(target)


async def test_a_restored_worker_is_captured_in_turn(node):
    source = serving(node)
    outcome = await node.capture_running(source, "running-first")
    target = await restored(node, "running-first", outcome.manifest_digest)
    said(target, "/count")
    outcome = await node.capture_running(target, "running-second")
    assert outcome.ok, outcome
    assert (1, "1", None, "T") == facts(target)
    assert (1, "1", None, "T") == facts(await restored(node, "running-second", outcome.manifest_digest))
    outcome = await node.capture_running(source, "running-second", "2")
    assert outcome.ok, outcome


async def test_pids_of_what_a_restored_worker_has_started_are_left_to_it(node):
    """They are low ones, and probes that start during the next restore take low ones too."""
    source = serving(node, FORKS)
    outcome = await node.capture_running(source, "running-forks-1")
    target = await restored(node, "running-forks-1", outcome.manifest_digest)
    os.kill(target.init(), signal.SIGUSR1)
    target.says("forked")
    outcome = await node.capture_running(target, "running-forks-2")
    last = node.start_as(BareContainer, "--", PYTHON, "-c", START + SERVE)
    with probed(last):
        again = await node.restore(last, "running-forks-2", outcome.manifest_digest)
    assert again.ok, again
    assert said(last)


@contextlib.contextmanager
def probed(container: BareContainer) -> Iterator[None]:
    """Start processes in a container one after the other, as exec probes do."""
    enter = ["nsenter", "-t", str(container.init()), "-m", "-n", "-p", "-i", "-u"]
    with subprocess.Popen([*enter, PYTHON, "-c", PROBES], stdout=subprocess.PIPE) as probes:
        try:
            assert probes.stdout is not None
            assert b"up\n" == probes.stdout.readline()
            yield
        finally:
            probes.kill()


async def test_no_process_sees_its_children_stopped(node):
    """A shell with job control would take its pipeline for stopped, and go on without it."""
    source = serving(node, SHELLS)
    outcome = await node.capture_running(source, "running-shells-1")
    target = await restored(node, "running-shells-1", outcome.manifest_digest)
    assert said(target)
    again = await node.capture_running(target, "running-shells-2")
    assert (True, True) == (outcome.ok, again.ok), again
    for container in (source, target):
        assert said(container)
        assert "" == container.run("ls /var/tmp | grep stopped-").stdout


async def test_thirty_processes_each_the_child_of_another(node):
    """Each is stopped after its parent, within the time that all have."""
    source = serving(node, NESTED)
    outcome = await node.capture_running(source, "running-nested")
    assert outcome.ok, outcome
    assert said(source)


async def test_what_waits_in_poll_waits_on_in_both(node):
    """No signal has come: a program without handlers takes EINTR for an error, and ends."""
    source = serving(node, POLLS)
    outcome = await node.capture_running(source, "running-polls-1")
    target = await restored(node, "running-polls-1", outcome.manifest_digest)
    assert said(target)
    again = await node.capture_running(target, "running-polls-2")
    last = await restored(node, "running-polls-2", again.manifest_digest)
    for container in (source, target, last):
        assert said(container)
        os.kill(container.init(), signal.SIGUSR1)
        container.says("polled 1 1")


async def test_its_connections_go_on_and_are_closed_in_the_restored_one(node):
    source = serving(node)
    client = in_network(source.init(), lambda: socket.create_connection(("127.0.0.1", 8000), timeout=10))
    connection = http.client.HTTPConnection("127.0.0.1", 8000)
    connection.sock = client

    def count():
        connection.request("GET", "/count")
        return json.loads(connection.getresponse().read())["count"]

    with contextlib.closing(connection):
        assert 1 == count()
        outcome = await node.capture_running(source, "running-client")
        assert (True, 1) == (outcome.ok, outcome.connections.closed), outcome
        assert 2 == count()
        assert client is connection.sock


@pytest.mark.parametrize("number", each(RUNNING, but=("canary", "gpu-lock", "gpu-save", "gpu-checkpoint", "weights")))
async def test_whatever_fails_it_goes_on(node, monkeypatch, number):
    name = f"running-fails-{number}"
    source = serving(node)
    said(source, "/forget")
    monkeypatch.setattr(engine_module, "RUNNING", failing(RUNNING, number))
    outcome = await node.capture_running(source, name)
    assert (False, AgentReason.INTERNAL_ERROR) == (outcome.ok, outcome.reason)
    found = said(source, "/count")
    assert (1, None, "T") == (found["count"], found["child"], found["stopped"])
    assert found["silence"] < LONGEST_SILENCE
    assert [] == [path for path in (node.store / name).rglob("*") if path.is_file()]


@pytest.mark.parametrize("phase", [ReportPhase.FREEZE, ReportPhase.DUMP, ReportPhase.FILES, ReportPhase.THAW])
async def test_whom_a_dead_agent_left_standby_wakes(node, phase):
    source = serving(node)
    said(source, "/forget")
    die_after(phase, node, source, f"running-killed-{phase}", running=True)
    found = said(source, "/count")
    assert (1, None, "T") == (found["count"], found["child"], found["stopped"])
    assert found["silence"] < LONGEST_SILENCE
    outcome = await node.capture_running(source, f"running-after-{phase}")
    assert outcome.ok, outcome


async def test_names_that_a_dead_agent_gave_are_gone_after_the_next_capture(node):
    source = serving(node, OTHER_NAMES)
    die_after(ReportPhase.FILES, node, source, "running-names-killed", running=True)
    said(source)
    outcome = await node.capture_running(source, "running-names-after")
    assert outcome.ok, outcome
    assert "link_remap" not in source.run(OPEN_AND_NAMED).stdout


@pytest.mark.parametrize(
    ("reason", "more"),
    [
        pytest.param(AgentReason.IO_URING, IO_URING, id="io-uring"),
        # To read its file would break the lease, and end a worker that does not expect that.
        pytest.param(AgentReason.UNSUPPORTED_DESCRIPTOR, LEASE, id="lease"),
    ],
)
async def test_what_cannot_be_carried_is_refused_by_name(node, reason, more):
    source = serving(node, more)
    outcome = await node.capture_running(source, f"running-refused-{reason}")
    assert (False, reason) == (outcome.ok, outcome.reason), outcome
    assert "freeze" not in outcome.seconds
    assert 0 == said(source)["count"]


@pytest.mark.parametrize(
    "more", [pytest.param("", id="alone"), pytest.param(GHOSTS, id="beside-deleted-files-that-have-none")]
)
async def test_deleted_files_that_have_other_names_are_kept(node, more, request):
    name = f"running-names-{request.node.callspec.id}"
    source = serving(node, OTHER_NAMES + more)
    outcome = await node.capture_running(source, name)
    assert outcome.ok, outcome
    before = source.run(OPEN_AND_NAMED).stdout
    assert 3 == before.count("first (deleted)\nwords\n"), before
    assert "link_remap" not in before
    target = await restored(node, name, outcome.manifest_digest)
    assert before == target.run(OPEN_AND_NAMED).stdout


async def test_a_folder_in_place_of_the_note_is_refused_by_name(node):
    source = serving(node)
    (source.control / control_files.FROZEN).mkdir()
    outcome = await node.capture_running(source, "running-blocked")
    assert (False, AgentReason.CONTROL_BLOCKED) == (outcome.ok, outcome.reason), outcome
    assert 1 == said(source, "/count")["count"]


async def test_a_worker_that_is_the_containers_first_process_is_refused(node):
    cold = node.start_as(BareContainer, "--", PYTHON, "-c", START + SERVE)
    cold.says("serves")
    outcome = await node.capture_running(cold, "running-cold")
    assert (False, AgentReason.NOT_UNDER_STANDBY) == (outcome.ok, outcome.reason)
    assert 0 == said(cold)["count"]


async def test_a_worker_that_waits_for_its_capture_is_left_to_its_job(node):
    source = node.start("--capture")
    source.says("warm")
    outcome = await node.capture_running(source, "running-of-a-job")
    assert (False, AgentReason.CLAIM_GONE) == (outcome.ok, outcome.reason)


class TestDevices:
    """The driver is a stand-in with the driver's rules."""

    @pytest.fixture
    def node(self, gpu_node):  # noqa: F811
        return gpu_node

    def start(self, node):
        source = node.start_as(BareContainer, "--serve", "--", *WORKER_COMMAND, "8", **gpu())
        source.says("outcome COLD")
        return source, source.get()

    async def test_a_worker_with_devices_gets_them_back(self, node):
        source, before = self.start(node)
        outcome = await node.capture_running(source, "running-gpu")
        assert outcome.ok, outcome
        assert before == source.get()
        assert ["R", "R"] == states(source)
        target = node.start(devices="nvidia0")
        target.init()
        outcome = await node.restore(target, "running-gpu", outcome.manifest_digest)
        assert outcome.ok, outcome
        assert before == target.get()
        assert ["R", "R"] == states(target)

    @pytest.mark.parametrize("number", each(RUNNING, but=("inspect", "canary", "gpu-save", "weights")))
    async def test_also_if_it_fails(self, node, monkeypatch, number):
        source, before = self.start(node)
        monkeypatch.setattr(engine_module, "RUNNING", failing(RUNNING, number))
        outcome = await node.capture_running(source, f"running-gpu-{number}")
        assert (False, AgentReason.INTERNAL_ERROR) == (outcome.ok, outcome.reason)
        assert before == source.get()
        assert ["R", "R"] == states(source)

    @pytest.mark.parametrize("phase", [phase.name for phase in RUNNING if phase.name not in ONLY_SOME_WORKERS])
    async def test_what_a_dead_agent_left_the_next_one_gives_back(self, node, library, phase):  # noqa: F811
        source, before = self.start(node)
        die_after(phase, node, source, f"running-gpu-killed-{phase}", library=str(library), running=True)
        NodeEngine(node.environment)
        wait_for(lambda: not (source.control / control_files.DEVICES).exists(), "the note taken away")
        assert before == source.get()
        assert ["R", "R"] == states(source)
        outcome = await node.capture_running(source, f"running-gpu-after-{phase}")
        assert outcome.ok, outcome

    async def test_also_the_one_that_is_to_capture_it_again(self, node, library):  # noqa: F811
        source, before = self.start(node)
        die_after(ReportPhase.FREEZE, node, source, "running-gpu-killed", library=str(library), running=True)
        outcome = await node.capture_running(source, "running-gpu-again")
        assert outcome.ok, outcome
        assert before == source.get()
        assert ["R", "R"] == states(source)

    @pytest.mark.parametrize("again", [pytest.param(False, id="at-its-start"), pytest.param(True, id="capturing")])
    async def test_if_the_driver_fails_the_container_starts_again(self, node, library, again):  # noqa: F811
        source, _ = self.start(node)
        die_after(ReportPhase.FREEZE, node, source, f"running-gpu-lost-{again:d}", library=str(library), running=True)
        init = source.init()
        for pid in descendants(init, namespace_mates(init)):
            stand_in_cuda.arrange(pid, "oom")
        if again:
            outcome = await node.capture_running(source, "running-gpu-lost-again")
            assert (False, AgentReason.GPU_FAILED) == (outcome.ok, outcome.reason), outcome
        else:
            NodeEngine(node.environment)
        assert control_files.EXIT_RESTART_ME == source.code()
        assert "SNAPSHOT_RESTART: " in source.text()

    async def test_what_no_other_agent_could_give_back_starts_again(self, node):
        """As while device memory is outside the image: what was taken out is in the dead agent's files."""
        source, _ = self.start(node)
        (source.control / control_files.DEVICES).write_text(control_files.DEVICES_LOST)
        outcome = await node.capture_running(source, "running-gpu-outside")
        assert (False, AgentReason.GPU_FAILED) == (outcome.ok, outcome.reason), outcome
        assert control_files.EXIT_RESTART_ME == source.code()

    async def test_if_it_fails_under_the_agents_eyes_too(self, node):
        source, _ = self.start(node)
        init = source.init()
        for pid in descendants(init, namespace_mates(init)):
            stand_in_cuda.arrange(pid, "oom")
        outcome = await node.capture_running(source, "running-gpu-oom")
        assert (False, AgentReason.GPU_FAILED) == (outcome.ok, outcome.reason), outcome
        assert control_files.EXIT_RESTART_ME == source.code()


def test_the_worker_is_standbys_child_and_keeps_its_control_directory(node):
    source = node.start_as(BareContainer, "--serve", "--", "sh", "-c", "env; exec sleep 1000000")
    source.says("DYN_SNAPSHOT_CONTROL_DIR=/snapshot-control")
    assert "DYN_SNAPSHOT_CHECKPOINT_ID" not in source.text()
    init = source.init()
    mates = namespace_mates(init)
    assert [1001] == [mates[pid].inner_pid for pid in descendants(init, mates)]
