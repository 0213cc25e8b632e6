"""Many pods at once on one kubelet, and an agent that is killed again and again while they start."""

import os
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from cluster.api import Cluster
from contract.api import keys
from contract.api.reports import read_report
from contract.remedies.agent import AGENT
from demo.kubectl import Kubectl
from tests.node.test_fallbacks import COLD, RESTORED
from tests.support.fixtures import node

NAME = "many"
AT_ONCE = 20
KILLED_RESTORES = int(os.environ.get("SNAPSHOT_TEST_KILLED_RESTORES", "20"))
"""A release runs 50: four minutes on two cores."""
BATCH = 10
SEED = 10
SECONDS = 240.0
"""For all pods of a batch: two shared cores start them."""
KILL_AGENT = """
import os, pathlib, signal
for path in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
    try:
        if path.read_bytes() == b"python3\\0-m\\0agent\\0":
            os.kill(int(path.parent.name), signal.SIGKILL)
    except OSError:
        pass
"""


@pytest.fixture(scope="module")
def source(installed: Kubectl) -> str:
    """The token of the captured worker: who answers with it is its continuation."""
    node.create(installed, node.checkpoint(NAME))
    node.phase(installed, NAME, "Ready", "Failed")
    first = node.pod(f"{NAME}-first", NAME, readinessProbe=node.probe())
    node.create(installed, first)
    token = str(node.await_answer(installed, f"{NAME}-first")["token"])
    assert node.first_line(installed, f"{NAME}-first").startswith(RESTORED)
    node.remove(installed, f"pod/{NAME}-first")
    return token


@contextmanager
def started(kubectl: Kubectl, names: list[str]) -> Iterator[None]:
    """Pods of the worker, all created together, and removed afterwards."""
    for name in names:
        node.create(kubectl, node.pod(name, NAME, readinessProbe=node.probe()))
    try:
        yield
    finally:
        node.remove(kubectl, *(f"pod/{name}" for name in names))


def outcome(kubectl: Kubectl, name: str, source: str) -> str:
    """Expect one worker, Ready, restored or cold with a word why; return which."""
    node.await_ready(kubectl, name, SECONDS)
    line, token = node.first_line(kubectl, name), node.await_answer(kubectl, name)["token"]
    assert 1 == node.workers(kubectl, name), name
    assert line.startswith((RESTORED, COLD)), line
    assert (token == source) == line.startswith(RESTORED), f"{name}: {line}"
    return "restored" if line.startswith(RESTORED) else line.removeprefix(COLD).strip()


def test_twenty_at_once(source: str, installed: Kubectl, figure):
    """As many pods as two cores start in a minute: none is lost to waiting for its turn."""
    names = [f"{NAME}-{number}" for number in range(AT_ONCE)]
    begun = time.monotonic()
    with started(installed, names):
        found = Counter(outcome(installed, name, source) for name in names)
        figure(f"{time.monotonic() - begun:.0f} s until all were Ready and looked at, {dict(found)}")
    assert {"restored": AT_ONCE} == found


def fresh_agent(kubectl: Kubectl) -> None:
    """Replace the agent's pod: kubelet forgets how often it ended."""
    kubectl("rollout", "restart", "daemonset/snapshot-agent")
    kubectl("rollout", "status", "daemonset/snapshot-agent", f"--timeout={node.READY_SECONDS}s")


@contextmanager
def agent_killed(cluster: Cluster, chance: random.Random) -> Iterator[list[float]]:
    """Kill the node's agent at random moments."""
    over, kills = threading.Event(), list[float]()

    def kill() -> None:
        while not over.wait(chance.uniform(0.5, 6.0)):
            cluster.node(1).run("python3", "-c", KILL_AGENT)
            kills.append(time.monotonic())

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        yield kills
    finally:
        over.set()
        killer.join()


def test_an_agent_that_is_killed_at_random(source: str, installed: Kubectl, embedded_cluster: Cluster, figure):
    """Kubelet lets it wait longer each time, so some pods meet none; each is one Ready worker all the same."""
    chance, found, killed = random.Random(SEED), Counter[str](), 0
    for batch in range(KILLED_RESTORES // BATCH):
        fresh_agent(installed)
        names = [f"{NAME}-killed-{batch}-{number}" for number in range(BATCH)]
        with agent_killed(embedded_cluster, chance) as kills, started(installed, names):
            for name in names:
                found[outcome(installed, name, source)] += 1
                _explained(installed, name)
        killed += len(kills)
    fresh_agent(installed)
    figure(f"{killed} kills, {dict(found)}")
    assert killed
    assert KILLED_RESTORES == sum(found.values())


def _explained(kubectl: Kubectl, name: str) -> None:
    """Expect that a report, if an agent lived to write one, has a reason of the list."""
    notes = kubectl.get("pod", name)["metadata"].get("annotations", {})
    report = read_report(notes.get(keys.ANN_RESTORE_REPORT, ""))
    assert report is None or report.reason in {"", *AGENT}
