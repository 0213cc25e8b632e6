"""An agent is killed after each phase, with CUDA processes in the worker; the next agent finds what it left."""

import os

import pytest

from agent.executor.capture.phases import CAPTURE
from agent.executor.restore.phases import RESTORE
from contract.api import control_files
from contract.api.reports import ReportPhase
from contract.api.states import AgentReason
from contract.pods.canary import Canary, CanaryCall
from linux.proc import PROC, namespace_mates
from tests.node.engine.devices.test_gpu_workers import gpu, library, node, states  # noqa: F401 - fixtures
from tests.support.fixtures.bare_container import wait_for
from tests.support.fixtures.dying_agent import die_after
from tests.support.fixtures.engine import Node, captured, ready

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: namespaces and criu")


def each(phases):
    # The verdict is the end: standby has it, and nobody asks again. No device memory of these workers stays outside.
    left_out = ("canary", "gpu-save", "weights", "gpu-prefetch", "ipc", "verdict")
    return [phase.name for phase in phases if phase.name not in left_out]


@pytest.mark.parametrize("phase", each(CAPTURE))
async def test_a_capture_that_was_cut_off_fails_and_its_container_ends(node: Node, library, phase):  # noqa: F811
    """What the worker is then is not known: criu may have left its code in it. An automatic one is tried again."""
    name = f"killed-capture-{phase}"
    source = ready(node, **gpu())
    init = source.init()
    die_after(phase, node, source, name, library=str(library))
    outcome = await node.capture(source, name)
    # Standby may have ended the container before: it waits some seconds for another agent.
    assert outcome.reason in (AgentReason.AGENT_DIED, AgentReason.STANDBY_NOT_UP)
    assert (False, 1) == (outcome.ok, source.code())
    wait_for(lambda: not (PROC / str(init)).exists() or not namespace_mates(init), "the worker's end")
    published = (node.store / name / "versions/1").exists()
    assert published == (phase == ReportPhase.PUBLISH), "what is not proved has no name"


@pytest.mark.parametrize("phase", each(RESTORE))
async def test_a_restore_that_was_cut_off_is_done_again(node: Node, library, phase):  # noqa: F811
    name = f"killed-restore-{phase}"
    # Large enough for a page server.
    before, digest = await captured(node, name, megabytes=96, **gpu())
    target = node.start(megabytes=96, devices="nvidia0")
    target.init()
    die_after(phase, node, target, name, digest, str(library))
    outcome = await node.restore(target, name, digest)
    assert outcome.ok, outcome
    assert before == target.get()
    assert ["R", "R"] == states(target)


async def test_a_worker_that_was_awake_for_its_canary_is_ended(node: Node, library):  # noqa: F811
    """It had begun to serve, so the next agent cannot restore it again: kubelet restarts the container."""
    _, digest = await captured(node, "killed-canary")
    target = node.start()
    target.init()
    die_after(ReportPhase.CANARY, node, target, "killed-canary", digest, canary=CanaryCall(Canary(path="/"), 8000))
    outcome = await node.restore(target, "killed-canary", digest)
    assert (False, AgentReason.ALREADY_STARTED) == (outcome.ok, outcome.reason)
    target.says("SNAPSHOT_RESTART: files of a restore are left, the container needs a fresh start: the agent died")
    assert control_files.EXIT_RESTART_ME == target.code()
