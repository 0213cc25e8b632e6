"""An artifact is restored where it was captured before anything says that it is there."""

import contextlib
import os
import shutil
import socket
import threading
import time
from dataclasses import replace
from pathlib import Path

import h2
import hpack
import hyperframe
import pytest

from agent.container.questions.probe import problem
from contract.api import control_files
from contract.api.states import AgentReason
from contract.pods.probe import Probe
from tests.support import grpc_health
from tests.support.fixtures.bare_container import PYTHON, BareContainer
from tests.support.fixtures.engine import captured, ready, until_ready

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: namespaces and criu")

HTTP = Probe("HTTP", "127.0.0.1", 8000)
SILENT_STANDBY = "agent.container.questions.commands.can_run"


def asking(expression: str) -> Probe:
    return Probe("EXEC", command=(PYTHON, "-c", f"import sys, urllib.request; {expression}"), timeout=20.0)


START = """
import os, socket, sys, threading, time
sys.path.insert(0, "/tools")
import snapshot_sdk
"""
ENDS = "print('warm', flush=True)\nsys.exit(snapshot_sdk.quiesce() is snapshot_sdk.Outcome.RESTORED)"
WORKS = "print('warm', flush=True)\nsnapshot_sdk.quiesce()\nprint('did the work', flush=True)"
GRPC = """
import grpc_health
listener = socket.create_server(("127.0.0.1", 9000))
threading.Thread(target=grpc_health.serve, args=(listener, {"": 1, "model": 1, "other": 2}), daemon=True).start()
print("warm", flush=True)
snapshot_sdk.quiesce()
threading.Event().wait()
"""
SILENT = "print('warm', flush=True)\nsnapshot_sdk.quiesce()\nthreading.Event().wait()"
BINDS = """
server = socket.socket()
server.bind(("127.0.0.1", 8000))
server.listen()
client = socket.create_connection(("127.0.0.1", 8000))
accepted, _ = server.accept()
accepted.close()
client.close()
print("warm", flush=True)
snapshot_sdk.quiesce()
while True:
    server.accept()[0].close()
"""


def worker(node, script: str) -> BareContainer:
    source = node.start_as(BareContainer, "--capture", "--", PYTHON, "-c", START + script)
    until_ready(source)
    return source


@pytest.mark.parametrize(
    "probe",
    [
        pytest.param(HTTP, id="http"),
        pytest.param(Probe("TCP", "127.0.0.1", 8000), id="tcp"),
        pytest.param(asking("urllib.request.urlopen('http://127.0.0.1:8000')"), id="exec"),
        None,
    ],
)
async def test_a_worker_that_serves_again_is_captured(node, probe):
    source = ready(node)
    outcome = await node.capture(source, f"proof-{probe.kind.lower() if probe else 'none'}", probe=probe)
    assert outcome.ok, outcome
    assert outcome.seconds["proof"] > 0
    assert 0 == source.code()
    assert not (source.control / control_files.RESTORE_COMPLETE).exists()


async def test_a_worker_that_ends_when_it_is_restored_is_not(node):
    source = worker(node, ENDS)
    outcome = await node.capture(source, "proof-ends", probe=HTTP)
    assert (False, AgentReason.PROOF_FAILED) == (outcome.ok, outcome.reason)
    assert "ended at once" in outcome.message
    assert 1 == source.code()
    assert not (node.store / "proof-ends/versions/1").exists()


async def test_a_worker_without_a_probe_does_nothing_twice(node):
    """A batch job's work is its restored process's, in the pod that it is restored into."""
    source = worker(node, WORKS)
    outcome = await node.capture(source, "proof-batch")
    assert outcome.ok, outcome
    assert outcome.seconds["proof"] > 0
    assert "did the work" not in source.text()


async def test_a_worker_whose_probe_does_not_pass_is_not(node):
    outcome = await node.capture(worker(node, SILENT), "proof-silent", probe=replace(HTTP, patience=1.0))
    assert (False, AgentReason.PROOF_FAILED) == (outcome.ok, outcome.reason)
    assert "probe does not pass within 1 s" in outcome.message


@pytest.mark.parametrize(
    ("probe", "words"),
    [
        pytest.param(asking("sys.exit('nothing to serve')"), "ends with status 1: nothing to serve", id="fails"),
        pytest.param(Probe("EXEC", command=("/no/such/program",)), "/no/such/program", id="is-not-there"),
    ],
)
async def test_a_worker_whose_command_does_not_succeed_is_not(probe, words, node):
    outcome = await node.capture(worker(node, SILENT), "proof-command", probe=replace(probe, patience=1.0))
    assert (False, AgentReason.PROOF_FAILED) == (outcome.ok, outcome.reason)
    assert words in outcome.message


@pytest.fixture
def grpc_tools(node):
    """Put a gRPC health service into the containers' tools, with what it is made of."""
    shutil.copy(grpc_health.__file__, node.folder / "tools")
    for package in (h2, hpack, hyperframe):
        folder = Path(package.__file__).parent
        shutil.copytree(folder, node.folder / "tools" / folder.name, dirs_exist_ok=True)


@pytest.mark.parametrize("service", [pytest.param("", id="whole"), pytest.param("model", id="named")])
@pytest.mark.usefixtures("grpc_tools")
async def test_a_worker_that_serves_grpc_again_is_captured(service, node):
    source = worker(node, GRPC)
    probe = Probe("GRPC", "127.0.0.1", 9000, service=service, timeout=5.0)
    outcome = await node.capture(source, f"proof-grpc-{service or 'whole'}", probe=probe)
    assert outcome.ok, outcome
    assert 0 == source.code()


@pytest.mark.parametrize(
    ("service", "port", "words"),
    [
        pytest.param("other", 9000, "NOT_SERVING", id="not-serving"),
        pytest.param("third", 9000, "knows no such service", id="not-found"),
        pytest.param("", 9001, "ConnectionRefusedError", id="no-listener"),
    ],
)
@pytest.mark.usefixtures("grpc_tools")
async def test_a_worker_whose_health_check_says_no_is_not(service, port, words, node):
    probe = Probe("GRPC", "127.0.0.1", port, service=service, patience=1.0)
    outcome = await node.capture(worker(node, GRPC), "proof-grpc-fails", probe=probe)
    assert (False, AgentReason.PROOF_FAILED) == (outcome.ok, outcome.reason)
    assert words in outcome.message


async def test_a_standby_that_runs_no_commands_is_asked_nothing(node, monkeypatch):
    monkeypatch.setattr(SILENT_STANDBY, lambda _: False)
    source = worker(node, WORKS)
    outcome = await node.capture(source, "proof-old-standby", probe=asking("sys.exit(1)"))
    assert outcome.ok, outcome
    assert "did the work" not in source.text()


@pytest.mark.parametrize(
    ("kind", "part"),
    [pytest.param("HTTP", b"H", id="http"), pytest.param("GRPC", b"\0\0\0\4\0\0\0\0\0", id="grpc")],
)
def test_an_answer_that_never_ends_is_none(kind, part):
    with socket.create_server(("127.0.0.1", 0)) as server:

        def drip() -> None:
            connection, _ = server.accept()
            with connection, contextlib.suppress(OSError):
                while True:
                    connection.sendall(part)
                    threading.Event().wait(0.05)

        thread = threading.Thread(target=drip)
        thread.start()
        started = time.monotonic()
        probe = Probe(kind, "127.0.0.1", server.getsockname()[1], timeout=0.5)
        assert problem(probe, os.getpid()) is not None
        assert time.monotonic() - started < 5
        thread.join(5)


async def test_a_connection_in_time_wait_does_not_keep_the_port(node):
    """The listener has no SO_REUSEADDR, and the proof is in the network of the capture."""
    outcome = await node.capture(worker(node, BINDS), "proof-port", probe=Probe("TCP", "127.0.0.1", 8000))
    assert outcome.ok, outcome


async def test_the_proof_leaves_the_artifact_as_it_was(node):
    before, digest = await captured(node, "proof-whole")
    target = node.start()
    target.init()
    outcome = await node.restore(target, "proof-whole", digest)
    assert outcome.ok, outcome
    assert before == target.get()
