"""Workers that are restored, stopped and woken later, through a real engine and a real criu.

The driver of GPU workers is a stand-in with the driver's rules.
"""

import os
import signal
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from agent.executor import engine as engine_module
from agent.executor.engine import NodeEngine
from agent.executor.parked.park import park_phases
from agent.executor.parked.wake import wake_phases
from agent.executor.restore.phases import RESTORE
from contract.api import control_files, keys
from contract.api.reports import MemoryRestore, ReportPhase
from contract.api.states import AgentReason
from contract.pods.canary import Canary, CanaryCall
from linux.proc import descendants, namespace_mates, status
from tests.node.engine.devices.test_gpu_workers import MIB, gpu, library, states  # noqa: F401 - a fixture
from tests.node.engine.failures.test_failing_phases import each, failing
from tests.support.fixtures.bare_container import PYTHON, BareContainer, wait_for
from tests.support.fixtures.dying_agent import die_after
from tests.support.fixtures.engine import COLD, Node, captured, gpu_node

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: namespaces and criu")


@pytest.fixture
def node(folder, library) -> Iterator[Node]:  # noqa: F811
    with gpu_node(folder, library) as made:
        yield made


def tree(container) -> list[int]:
    init = container.init()
    return descendants(init, namespace_mates(init))


async def parked(node: Node, name: str, digest: str, **options):
    target = node.start(keys.STANDBY_PARK, **options)
    target.init()
    outcome = await node.restore(target, name, digest, parks=True)
    assert (True, True) == (outcome.ok, outcome.parked), outcome
    target.says(control_files.LOG_PARKED.format(id="abc"))
    return target, outcome


@pytest.mark.parametrize("megabytes", [pytest.param(8, id="copied"), pytest.param(96, id="by a page server")])
async def test_a_worker_is_parked_and_woken(node, megabytes):
    name = f"parked-{megabytes}"
    before, digest = await captured(node, name, megabytes=megabytes)
    target, outcome = await parked(node, name, digest, megabytes=megabytes)
    assert ReportPhase.PARK in outcome.seconds
    assert {"T"} == {status(pid).state for pid in tree(target)}
    assert not (target.control / control_files.RESTORE_COMPLETE).exists()
    assert not target.claimed()
    if megabytes > 64:
        assert MemoryRestore.PARKED == outcome.memory

    woken = await node.restore(target, name, digest)

    assert (True, False) == (woken.ok, woken.parked), woken
    assert ReportPhase.WAKE in woken.seconds
    assert before == target.get()
    assert not (target.control / control_files.PARKED).exists()


async def test_device_memory_is_taken_at_the_wake(node):
    before, digest = await captured(node, "parked-gpu", **gpu())
    target, outcome = await parked(node, "parked-gpu", digest, devices="nvidia0")
    assert ReportPhase.GPU_RESTORE not in outcome.seconds
    assert {} == dict(node.environment.gpus.used())
    assert "R" not in states(target)

    woken = await node.restore(target, "parked-gpu", digest)

    assert woken.ok, woken
    assert ReportPhase.GPU_RESTORE in woken.seconds
    assert before == target.get()
    assert ["R", "R"] == states(target)


async def test_another_agent_wakes_what_one_has_parked(node):
    before, digest = await captured(node, "parked-over", **gpu())
    target, _ = await parked(node, "parked-over", digest, devices="nvidia0")
    node.engine = NodeEngine(node.environment)
    again = await node.restore(target, "parked-over", digest, parks=True)
    assert (True, True, {}) == (again.ok, again.parked, {k: v for k, v in again.seconds.items() if k == "criu"})

    woken = await node.restore(target, "parked-over", digest)

    assert woken.ok, woken
    assert before == target.get()


async def test_a_parked_worker_whose_agent_was_killed_at_once(node, library):  # noqa: F811
    """It could report nothing; the next agent finds the worker as it was left."""
    before, digest = await captured(node, "parked-killed", **gpu())
    target = node.start(keys.STANDBY_PARK, devices="nvidia0")
    target.init()
    die_after(ReportPhase.PARK, node, target, "parked-killed", digest, str(library), parks=True)
    outcome = await node.restore(target, "parked-killed", digest, parks=True)
    assert (True, True) == (outcome.ok, outcome.parked), outcome

    woken = await node.restore(target, "parked-killed", digest)

    assert woken.ok, woken
    assert before == target.get()


NO_CANARY = ("gpu-prefetch", "canary", "verdict")
WAKE = wake_phases(RESTORE)


@pytest.mark.parametrize("phase", [each.name for each in WAKE if each.name not in NO_CANARY])
async def test_an_agent_that_is_killed_while_it_wakes(node, library, phase):  # noqa: F811
    """The next one ends what is there, and restores it from the beginning."""
    name = f"wake-killed-{phase}"
    before, digest = await captured(node, name, **gpu())
    target, _ = await parked(node, name, digest, devices="nvidia0")
    die_after(phase, node, target, name, digest, str(library))

    woken = await node.restore(target, name, digest)

    assert (True, True) == (woken.ok, ReportPhase.CRIU in woken.seconds), woken
    assert before == target.get()
    assert ["R", "R"] == states(target)


@pytest.mark.parametrize("number", each(WAKE, but=NO_CANARY))
async def test_a_wake_that_fails_is_a_cold_start(node, monkeypatch, number):
    name = f"wake-failed-{number}"
    _, digest = await captured(node, name, **gpu())
    target, _ = await parked(node, name, digest, devices="nvidia0")
    monkeypatch.setattr(engine_module, "wake_phases", lambda phases: failing(wake_phases(phases), number))

    outcome = await node.restore(target, name, digest)

    assert (False, AgentReason.INTERNAL_ERROR) == (outcome.ok, outcome.reason)
    assert COLD in target.says("outcome NOT_MANAGED")
    assert {} == dict(node.environment.gpus.used())


async def test_a_wake_that_fails_may_be_tried_as_a_whole_restore(node, monkeypatch):
    before, digest = await captured(node, "wake-again", **gpu())
    target, _ = await parked(node, "wake-again", digest, devices="nvidia0")
    monkeypatch.setattr(engine_module, "wake_phases", lambda phases: failing(wake_phases(phases), 1))

    outcome = await node.restore(target, "wake-again", digest, attempts=2)

    assert outcome.ok, outcome
    assert [AgentReason.INTERNAL_ERROR] == [reason for reason, _ in outcome.tried]
    assert before == target.get()


async def test_a_device_that_another_holds(node, monkeypatch):
    """Nothing is asked of its memory while the worker is parked; when it is woken, the other has some seconds."""
    monkeypatch.setattr("agent.executor.parked.wake.MEMORY_SECONDS", 0.3)
    _, digest = await captured(node, "parked-full", **gpu())
    full = full_devices(node)
    node.engine = NodeEngine(replace(node.environment, gpus=full))
    target, _ = await parked(node, "parked-full", digest, devices="nvidia0")

    outcome = await node.restore(target, "parked-full", digest)

    assert (False, AgentReason.GPU_MEMORY) == (outcome.ok, outcome.reason)
    assert "another process holds the rest" in outcome.message
    assert COLD in target.says("outcome NOT_MANAGED")


async def test_a_device_that_another_is_leaving(node):
    before, digest = await captured(node, "parked-leaving", **gpu())
    leaving = full_devices(node, looks=5)
    node.engine = NodeEngine(replace(node.environment, gpus=leaving))
    target, _ = await parked(node, "parked-leaving", digest, devices="nvidia0")

    outcome = await node.restore(target, "parked-leaving", digest)

    assert outcome.ok, outcome
    assert before == target.get()


class FullDevices:
    """Devices of which another worker holds the memory, for so many looks."""

    def __init__(self, gpus, looks):
        self.driver, self.used, self._devices, self._looks = gpus.driver, gpus.used, gpus.devices, looks

    def devices(self):
        self._looks -= 1
        found = self._devices()
        return found if self._looks < 0 else tuple(replace(each, free=MIB) for each in found)


def full_devices(node: Node, looks: int = 10**9) -> FullDevices:
    return FullDevices(node.environment.gpus, looks)


async def test_its_files_are_taken_back_if_it_cannot_be_woken(node, monkeypatch):
    """The journal of what was changed outlives the parking agent."""
    _, digest = await captured(node, "parked-files")
    target, _ = await parked(node, "parked-files", digest)
    assert (target.control / control_files.DIRTY).exists()
    node.engine = NodeEngine(node.environment)

    outcome = await node.restore(target, "parked-files", "blake3:" + "0" * 64)

    assert (False, AgentReason.MANIFEST_DIGEST) == (outcome.ok, outcome.reason)
    assert COLD in target.says("outcome NOT_MANAGED")


async def test_it_is_not_woken_from_another_artifact(node):
    """The pod names another by now: what is known of that one is not true of this worker."""
    _, digest = await captured(node, "parked-first")
    _, other = await captured(node, "parked-other")
    target, _ = await parked(node, "parked-first", digest)

    outcome = await node.restore(target, "parked-other", other)

    assert (False, AgentReason.CHECKPOINT_CHANGED) == (outcome.ok, outcome.reason)
    assert COLD in target.says("outcome NOT_MANAGED")


async def test_a_canary_is_asked_at_the_wake(node):
    before, digest = await captured(node, "parked-canary")
    call = CanaryCall(Canary(path="/"), 8000)
    target = node.start(keys.STANDBY_PARK)
    target.init()
    outcome = await node.restore(target, "parked-canary", digest, parks=True, canary=call)
    assert (True, True) == (outcome.ok, outcome.parked), outcome
    assert ReportPhase.CANARY not in outcome.seconds

    woken = await node.restore(target, "parked-canary", digest, canary=call)

    assert (True, True) == (woken.ok, ReportPhase.CANARY in woken.seconds), woken
    assert before == target.get()


async def test_a_deleted_pod_leaves_nothing(node):
    _, digest = await captured(node, "parked-deleted")
    target, _ = await parked(node, "parked-deleted", digest)
    found = [target.init(), *tree(target)]
    os.kill(found[0], signal.SIGTERM)
    assert 128 + signal.SIGTERM == target.code()
    for pid in found:
        wait_for(lambda pid=pid: not os.path.exists(f"/proc/{pid}"), f"end of {pid}")  # noqa: PTH110 - /proc


CLOCK = """
import sys, threading, time
sys.path.insert(0, "/tools")
import snapshot_sdk
print("warm", time.monotonic(), flush=True)
snapshot_sdk.quiesce()
print("clock", time.monotonic(), flush=True)
threading.Event().wait()
"""
PARKED_SECONDS = 3.0


async def test_its_clock_goes_on_while_it_is_parked(node):
    """docs/parked.md: as that of a process that is stopped; the time between capture and restore is left out."""
    source = node.start_as(BareContainer, "--capture", "--", PYTHON, "-c", CLOCK, uptime=10_000_000)
    before = float(source.says("warm ").split()[1])
    wait_for((source.control / control_files.READY_FOR_SNAPSHOT).exists, "ready file")
    artifact = await node.capture(source, "parked-clock")
    assert artifact.ok, artifact
    target = node.start_as(BareContainer, keys.STANDBY_PARK, "--", PYTHON, "-c", CLOCK)
    target.init()
    outcome = await node.restore(target, "parked-clock", artifact.manifest_digest, parks=True)
    assert (True, True) == (outcome.ok, outcome.parked), outcome
    began = time.monotonic()
    wait_for(lambda: time.monotonic() - began > PARKED_SECONDS, "time has passed")
    assert "clock " not in target.text()

    woken = await node.restore(target, "parked-clock", artifact.manifest_digest)

    assert woken.ok, woken
    after = float(target.says("clock ").split("clock ")[1].split()[0])
    assert PARKED_SECONDS < after - before < PARKED_SECONDS + 60


NEITHER = (ReportPhase.PARK, ReportPhase.IPC)
"""The end, and what such a worker has no need of."""


@pytest.mark.parametrize("phase", [each.name for each in park_phases(RESTORE) if each.name not in NEITHER])
async def test_an_agent_that_is_killed_before_it_has_parked_a_worker(node, library, phase):  # noqa: F811
    """The next one begins again, and parks it."""
    name = f"park-killed-{phase}"
    before, digest = await captured(node, name, megabytes=96, **gpu())
    target = node.start(keys.STANDBY_PARK, megabytes=96, devices="nvidia0")
    target.init()
    die_after(phase, node, target, name, digest, str(library), parks=True)
    outcome = await node.restore(target, name, digest, parks=True)
    assert (True, True) == (outcome.ok, outcome.parked), outcome
    assert ReportPhase.CRIU in outcome.seconds

    woken = await node.restore(target, name, digest)

    assert woken.ok, woken
    assert before == target.get()


async def test_a_worker_that_was_continued_meanwhile_is_not_handed_over(node):
    """Who may send it a signal has let it run before it was asked for; what it did then is not known."""
    _, digest = await captured(node, "parked-continued")
    target, _ = await parked(node, "parked-continued", digest)
    for pid in tree(target):
        os.kill(pid, signal.SIGCONT)

    outcome = await node.restore(target, "parked-continued", digest)

    assert (False, AgentReason.TREE_MISSING) == (outcome.ok, outcome.reason)
    assert "another continued it" in outcome.message
    assert COLD in target.says("outcome NOT_MANAGED")
