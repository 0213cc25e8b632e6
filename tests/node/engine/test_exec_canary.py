"""A canary that is a command: run in the container by standby, with no right but the container's, and ended whole."""

import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.container.questions import commands
from agent.container.questions.commands import CommandError
from contract.api import control_files
from contract.api.states import AgentReason
from contract.pods.canary import Canary, CanaryCall
from linux.proc import PROC
from tests.support.fixtures.bare_container import PYTHON, BareContainer, wait_for
from tests.support.fixtures.engine import Node, until_ready
from tests.support.fixtures.runc_container import RuncContainer

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: namespaces and criu")

COLD_WORKER = ["--", PYTHON, "-c", "print('cold', flush=True)"]


class Claimed:
    """A container whose standby waits for the verdict of an agent, which is this test."""

    def __init__(self, container: BareContainer):
        self.container = container
        self.init = container.init()
        wait_for((container.control / control_files.COMMANDS).exists, "its socket")
        self.claim = os.open(container.control / control_files.CLAIM, os.O_RDWR)
        fcntl.flock(self.claim, fcntl.LOCK_EX)
        self.control = os.open(container.control, os.O_RDONLY)

    def run(self, *command: str, seconds: float = 20) -> commands.Ended:
        return commands.run(command, self.control, self.init, seconds)

    def python(self, program: str, **options) -> commands.Ended:
        return self.run(PYTHON, "-c", program, **options)

    def others(self) -> list[str]:
        """Return the names of the processes beside standby."""
        namespace = str((PROC / str(self.init) / "ns/pid").readlink())
        return [
            (path / "comm").read_text().strip()
            for path in PROC.glob("[0-9]*")
            if path.name != str(self.init) and _is_in(path, namespace)
        ]

    def close(self) -> None:
        os.close(self.claim)
        os.close(self.control)


def _is_in(process: Path, namespace: str) -> bool:
    try:
        return namespace == str((process / "ns/pid").readlink())
    except OSError:
        return False


@pytest.fixture(
    params=[pytest.param((RuncContainer, 1000), id="runc-1000"), pytest.param((BareContainer, 0), id="root")]
)
def claimed(node: Node, request) -> Iterator[Claimed]:
    kind, user = request.param
    made = Claimed(node.start_as(kind, *COLD_WORKER, user=user))
    yield made
    made.close()


def test_it_is_run_with_the_containers_rights_and_nothing_of_standbys(claimed):
    """What it can do is what standby, the container's own first process, can."""
    facts = """
import json, os
fields = dict(line.rstrip("\\n").split(":\\t", 1) for line in open("/proc/self/status") if ":\\t" in line)
named = "pid net mnt ipc uts user cgroup time".split()
rights = "Uid Gid Groups CapInh CapPrm CapEff CapBnd CapAmb NoNewPrivs Seccomp".split()
print(json.dumps({
    "status": {name: fields[name] for name in rights},
    "ns": {name: os.readlink("/proc/self/ns/" + name) for name in named},
    "cgroup": open("/proc/self/cgroup").read(),
    "blocked": fields["SigBlk"], "ignored": fields["SigIgn"],
    "descriptors": sorted(os.listdir("/proc/self/fd"))[:-1], "preload": os.environ.get("LD_PRELOAD"),
}))
"""
    found = json.loads(claimed.python(facts).output)
    init = PROC / str(claimed.init)
    own = dict(line.split(":\t", 1) for line in (init / "status").read_text().split("\n") if ":\t" in line)
    assert {name: own[name] for name in found["status"]} == found["status"]
    assert {name: str((init / "ns" / name).readlink()) for name in found["ns"]} == found["ns"]
    assert (init / "cgroup").read_text() == found["cgroup"]
    assert "0" * 16 == found["blocked"]
    assert (["0", "1", "2"], None) == (found["descriptors"], found["preload"])


def test_its_end_its_output_and_what_it_says_to_people(claimed):
    ended = claimed.python("import sys; print('x' * 200000); print('one\\ntwo', file=sys.stderr); sys.exit(3)")
    assert (3, b"x" * 200000 + b"\n", "two") == (ended.status, ended.output, ended.complaint)


DAEMON = """
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        time.sleep(600)
    os._exit(0)
"""


@pytest.mark.parametrize(
    ("words", "is_final", "program"),
    [
        pytest.param("longer than 1 s", False, "import time; time.sleep(600)", id="hangs"),
        pytest.param("longer than 1 s", False, DAEMON + "time.sleep(600)", id="hangs-with-a-daemon"),
        pytest.param("more than 16 MiB", True, "import os\nwhile True: os.write(1, bytes(1 << 20))", id="writes-on"),
        pytest.param("ended by SIGKILL", False, "import os; os.kill(os.getpid(), 9)", id="killed"),
        pytest.param("was lost", False, "import os; os.kill(os.getppid(), 9)", id="ends-its-helper"),
    ],
)
def test_one_that_does_not_end_as_it_should_leaves_nothing(claimed, words, is_final, program):
    with pytest.raises(CommandError, match=words) as caught:
        claimed.python(program, seconds=1 if "longer" in words else 20)
    assert is_final == caught.value.final
    if words != "was lost":  # then its orphan is the container's own
        wait_for(lambda: not claimed.others(), "its end")


@pytest.mark.parametrize(
    "program",
    [
        pytest.param(DAEMON, id="a-daemon"),
        pytest.param("import os\nfor _ in range(1024): os.write(2, bytes(1 << 20))", id="a-gigabyte-of-errors"),
        pytest.param("import sys; sys.stdout.close()", id="closes-its-output"),
    ],
)
def test_one_that_ends_is_waited_for_and_nothing_else_of_it(claimed, program):
    assert 0 == claimed.python(program).status
    wait_for(lambda: not claimed.others(), "its end")


@pytest.mark.parametrize(
    ("program", "words"),
    [
        pytest.param("/no/such/program", "No such file or directory", id="missing"),
        pytest.param("/etc/passwd", "Permission denied", id="not-executable"),
    ],
)
def test_one_that_cannot_be_executed_is_not_tried_again(claimed, program, words):
    with pytest.raises(CommandError, match=words) as caught:
        claimed.run(program)
    assert caught.value.final


def test_no_process_of_the_container_is_served(claimed):
    """It could only have done what it does by itself; but it would have been first in line."""
    program = """
import socket
with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as asking:
    asking.connect("/snapshot-control/standby-commands")
    asking.settimeout(10)
    print(asking.recv(64))
"""
    assert b"b''\n" == claimed.python(program).output


WORKER = """
import http.server, json, sys, threading
sys.path.insert(0, "/tools")
import snapshot_sdk
weights = [1, 2, 3]
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps(weights).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_):
        pass
server = http.server.ThreadingHTTPServer(("", 8000), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
print("warm", flush=True)
snapshot_sdk.quiesce()
{after}
threading.Event().wait()
"""
CHECK = """
import json, time, urllib.request
weights = json.load(urllib.request.urlopen("http://127.0.0.1:8000/", timeout=5))
print(json.dumps({"weights": weights, "at": time.time()}))
"""
SAME = {"same": True, "select": ["/weights"]}


def call(*command: str, **fields) -> CanaryCall:
    return CanaryCall(Canary.model_validate({"exec": {"command": list(command)}, "seconds": 10} | fields))


def worker(node: Node, after: str = "pass") -> BareContainer:
    source = node.start_as(BareContainer, "--capture", "--", PYTHON, "-c", WORKER.format(after=after))
    until_ready(source)
    return source


async def test_a_worker_whose_command_says_the_same_is_restored(node):
    canary = call(PYTHON, "-c", CHECK, **SAME)
    captured = await node.capture(worker(node), "exec-same", canary=canary)
    assert captured.ok, captured
    assert captured.seconds["canary"] > 0
    target = node.start_as(BareContainer, *COLD_WORKER)
    target.init()
    restored = await node.restore(target, "exec-same", captured.manifest_digest, canary=canary)
    assert restored.ok, restored
    assert restored.seconds["canary"] > 0
    assert [1, 2, 3] == json.loads(target.get())


async def test_an_artifact_whose_worker_forgets_is_not_kept(node):
    outcome = await node.capture(
        worker(node, after="weights = 'lost'"), "exec-lost", canary=call(PYTHON, "-c", CHECK, **SAME)
    )
    assert (False, AgentReason.PROOF_FAILED) == (outcome.ok, outcome.reason)
    assert "another than just before the capture" in outcome.message


@pytest.mark.parametrize(
    ("canary", "words"),
    [
        pytest.param(
            call("/no/check", seconds=600), "/no/check: the command cannot be executed: No such", id="missing"
        ),
        pytest.param(
            call("sh", "-c", "echo bad >&2; exit 4", seconds=0.5), "sh ends with status 4, not 0: bad", id="4"
        ),
        pytest.param(call("sh", "-c", "sleep 600", seconds=0.5), "longer than 0.5 s", id="hangs"),
        pytest.param(call("echo", "a", sha256="0" * 64, seconds=600), "sha256 of its answer", id="another-digest"),
    ],
)
async def test_a_restored_worker_whose_command_fails_is_ended_and_its_container_starts_again(node, canary, words):
    name = f"exec-wrong-{canary.canary.exec.command[0].strip('/').replace('/', '-')}-{len(words)}"
    captured = await node.capture(worker(node), name)
    assert captured.ok, captured
    target = node.start_as(BareContainer, *COLD_WORKER)
    target.init()
    outcome = await node.restore(target, name, captured.manifest_digest, canary=canary)
    assert (False, AgentReason.CANARY_FAILED) == (outcome.ok, outcome.reason)
    assert words in outcome.message
    target.says("SNAPSHOT_RESTART: ")
    assert control_files.EXIT_RESTART_ME == target.code()


async def test_a_standby_that_runs_no_commands_is_refused_before_anything_is_touched(node):
    source = worker(node)
    (source.control / control_files.COMMANDS).unlink()
    refused = await node.capture(source, "exec-older", canary=call("true"))
    assert (False, AgentReason.CANARY_FAILED) == (refused.ok, refused.reason)
    assert "build the placeholder image" in refused.message
    captured = await node.capture(worker(node), "exec-newer")
    target = node.start_as(BareContainer, *COLD_WORKER)
    target.init()
    wait_for((target.control / control_files.COMMANDS).exists, "its socket")
    (target.control / control_files.COMMANDS).unlink()
    outcome = await node.restore(target, "exec-newer", captured.manifest_digest, canary=call("true"))
    assert (False, AgentReason.CANARY_FAILED) == (outcome.ok, outcome.reason)
    assert "criu" not in outcome.seconds
    assert target.says("cold")
