"""What ends in the middle, and what stays after many rounds: GPU workers on a real card; run by `make test-gpu`."""

import shutil
from pathlib import Path

import pytest

from contract.api.reports import ReportPhase
from contract.api.states import AgentReason
from tests.gpu.containers import OUTSIDE, PROBE, ready, start, used_by_workers
from tests.support.fixtures.bare_container import wait_for
from tests.support.fixtures.dying_agent import die_after
from tests.support.fixtures.runc_container import RuncContainer

pytestmark = pytest.mark.gpu

ROUNDS = 50


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def locked_memory() -> str:
    """Of the agent, in kB."""
    return next(line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if "VmLck" in line)


async def test_rounds_of_captures_leave_nothing(node, figure):
    """Each restored worker ends with its container; free device memory is what it was after the first."""
    helper, free = node.environment.gpus, []
    captured = await node.capture(ready(node, user=1000, mebibytes=64), "rounds")
    assert captured.ok, captured
    for _ in range(ROUNDS):
        target = start(node, RuncContainer, user=1000, mebibytes=64)
        target.init()
        outcome = await node.restore(target, "rounds", captured.manifest_digest)
        assert outcome.ok, outcome
        wait_for(lambda t=target: t.get(), "an answer")
        target.close()
        node.containers.remove(target)
        wait_for(lambda: not used_by_workers(node), "device memory free")
        free.append((helper.devices()[0].free, descriptors(), locked_memory()))
    assert free[1] == free[-1]
    names = "free device memory, descriptors, locked memory"
    figure(f"{ROUNDS} restores: {names} {free[1]} after 2, {free[-1]} after all")


async def test_rounds_of_captures_and_restores_of_one_worker_leave_nothing(node, figure):
    """It is captured while it runs and restored into the next container, which is captured in turn."""
    helper, seen = node.environment.gpus, []
    captured = await node.capture(ready(node, user=1000, mebibytes=64), "round-0", probe=PROBE)
    for number in range(ROUNDS):
        assert captured.ok, captured
        target = start(node, RuncContainer, user=1000, mebibytes=64)
        target.init()
        restored = await node.restore(target, f"round-{number}", captured.manifest_digest)
        assert restored.ok, (restored, target.text())
        wait_for(lambda t=target: t.get(), "an answer")
        captured = await node.capture_running(target, f"round-{number + 1}")
        wait_for(lambda t=target: t.get(), "an answer of one that goes on")
        target.close()
        node.containers.remove(target)
        shutil.rmtree(node.store / f"round-{number}")
        wait_for(lambda: not used_by_workers(node), "device memory free")
        seen.append((helper.devices()[0].free, descriptors(), locked_memory()))
    assert seen[1] == seen[-1]
    names = "free device memory, descriptors, locked memory"
    figure(f"{ROUNDS} captures and restores: {names} {seen[1]} after 2, {seen[-1]} after all")


async def test_a_forked_process_with_devices_is_refused_by_name(node, figure):
    outcome = await node.capture(ready(node, user=1000, flags=("forked",)), "forked")
    figure(outcome.message)
    assert (False, AgentReason.GPU_UNSUPPORTED) == (outcome.ok, outcome.reason)
    assert ReportPhase.GPU_LOCK not in outcome.seconds


GPU_PHASES = [ReportPhase.GPU_LOCK, ReportPhase.GPU_CHECKPOINT, ReportPhase.DUMP, ReportPhase.FILES]
GPU_PHASES += [ReportPhase.SEAL, ReportPhase.VERIFY, ReportPhase.PROOF]


@pytest.mark.parametrize(
    ("phase", "env"),
    [
        *(pytest.param(phase, {}, id=phase) for phase in GPU_PHASES),
        *(pytest.param(phase, OUTSIDE, id=f"{phase}-outside") for phase in (ReportPhase.GPU_SAVE, *GPU_PHASES)),
    ],
)
async def test_a_capture_whose_agent_is_killed_fails_and_frees_the_card(node, phase, env, request):
    """Once device memory is out, the kernel ends the worker with its agent: standby may end the container first."""
    name = f"killed-{request.node.callspec.id}"
    source = ready(node, user=1000, env=env)
    die_after(phase, node, source, name)
    outcome = await node.capture(source, name)
    assert outcome.reason in (AgentReason.AGENT_DIED, AgentReason.STANDBY_NOT_UP)
    assert (False, 1) == (outcome.ok, source.code())
    wait_for(lambda: not used_by_workers(node), "device memory free")


@pytest.mark.parametrize("env", [pytest.param({}, id="image"), pytest.param(OUTSIDE, id="outside")])
async def test_a_restore_whose_agent_is_killed_is_done_again(node, env, request):
    name = f"again-{request.node.callspec.id}"
    source = ready(node, user=1000, env=env)
    steps = [source.get() for _ in range(2)]
    captured = await node.capture(source, name)
    assert captured.ok, captured
    seen = []
    for phase in (ReportPhase.FILES, ReportPhase.ENTER, ReportPhase.LOOK, ReportPhase.GPU_RESTORE):
        target = start(node, RuncContainer, user=1000)
        target.init()
        die_after(phase, node, target, name, captured.manifest_digest)
        restored = await node.restore(target, name, captured.manifest_digest)
        assert restored.ok, (restored, target.text())
        seen.append([wait_for(target.get, "an answer"), target.get()])
        target.close()
        node.containers.remove(target)
        wait_for(lambda: not used_by_workers(node), "device memory free")
    assert [seen[0]] * len(seen) == seen
    assert steps[-1] not in seen[0]
