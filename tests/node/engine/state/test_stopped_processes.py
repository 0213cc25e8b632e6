"""A process that was stopped when its worker was captured is stopped in the restored one, until it is continued."""

import json
import os

import pytest

from contract.pods.probe import Probe
from tests.support.fixtures.bare_container import PYTHON, BareContainer
from tests.support.fixtures.engine import until_ready

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: namespaces and criu")

WORKER = """
import json, os, signal, socket, sys, threading, time
sys.path.insert(0, "/tools")
import snapshot_sdk

def child(name, stop=None):
    pid = os.fork()
    if pid == 0:
        if name == "above":
            child("grandchild", signal.SIGSTOP)
        while True:
            time.sleep(0.05)
            if restored():
                print(name, "ran", flush=True)
                signal.pause()
    if stop:
        os.setpgid(pid, pid)  # an orphaned process group is not suspended
        os.kill(pid, stop)
        os.waitpid(pid, os.WUNTRACED)
    return pid

def restored():
    return os.path.exists("/snapshot-control/restore-complete")

listener = socket.create_server(("127.0.0.1", 8000))
tree = {
    "stopped": child("stopped", signal.SIGSTOP),
    "suspended": child("suspended", signal.SIGTSTP),
    "above": child("above"),
    "running": child("running"),
}
time.sleep(0.2)
print("warm", flush=True)
snapshot_sdk.quiesce()
seen = {}
for name in ("stopped", "suspended"):
    pid, status = os.waitpid(tree[name], os.WUNTRACED | os.WNOHANG)
    seen[name] = pid == tree[name] and os.WIFSTOPPED(status)
print("seen", json.dumps(seen), flush=True)
while True:
    connection, _ = listener.accept()
    if connection.recv(100):
        os.kill(tree["suspended"], signal.SIGCONT)
    connection.close()
"""


async def test_stopped_processes_stay_stopped(node):
    """In the proof, too, where the worker is woken until its probe passes."""
    source = node.start_as(BareContainer, "--capture", "--", PYTHON, "-c", WORKER)
    until_ready(source)
    outcome = await node.capture(source, "stopped", probe=Probe("TCP", "127.0.0.1", 8000))
    assert outcome.ok, outcome
    assert {"running", "above"} >= ran(source)
    target = node.start_as(BareContainer, "--", PYTHON, "-c", WORKER)
    target.init()
    outcome = await node.restore(target, "stopped", outcome.manifest_digest)
    assert outcome.ok, outcome
    for name in ("running ran", "above ran", "seen "):
        text = target.says(name)

    seen = next(line for line in text.splitlines() if line.startswith("seen "))
    assert {"stopped": True, "suspended": True} == json.loads(seen.removeprefix("seen "))
    assert {"running", "above"} == ran(target)
    assert 3 == states(target).count("T")

    target.get()
    target.says("suspended ran")
    assert {"running", "above", "suspended"} == ran(target)


def ran(container: BareContainer) -> set[str]:
    return {line.split()[0] for line in container.text().splitlines() if line.endswith(" ran")}


def states(container: BareContainer) -> list[str]:
    return container.run("cat /proc/[0-9]*/stat | sed 's/.*) //' | cut -c1").stdout.split()
