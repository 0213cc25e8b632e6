"""The driver's helper, or the worker itself, ends in the middle of a capture or restore of a GPU worker.

The driver is a stand-in with the driver's rules: what it has begun it finishes, and another helper goes on from there.
"""

import contextlib
import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from agent.executor import engine as engine_module
from agent.executor.capture.phases import CAPTURE
from agent.executor.capture.running import RUNNING
from agent.executor.restore.phases import RESTORE
from contract.api.states import AgentReason
from linux.proc import descendants, is_alive, namespace_mates, status
from tests.node.engine.devices.test_gpu_workers import gpu, library, node, states  # noqa: F401 - fixtures
from tests.node.engine.failures.test_failing_phases import each
from tests.support import stand_in_cuda
from tests.support.fixtures.bare_container import WORKER_COMMAND, BareContainer, wait_for
from tests.support.fixtures.engine import COLD, captured, ready

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: namespaces and criu")

NO_DEVICES = ("canary", "gpu-save", "weights", "gpu-prefetch", "ipc", "verdict")


def end_helper(node) -> None:  # noqa: F811
    """The agent may not have seen it when it makes the next call."""
    helper = node.environment.cuda._running()._process.pid
    os.kill(helper, signal.SIGKILL)
    wait_for(lambda: not is_alive(helper), "the helper's end")


def then(phases, number, act):
    """The real phases; *act* is called when one of them has done its work."""

    def run(state):
        steps = phases[number].run(state)
        act()
        return steps

    return tuple(replace(phase, run=run) if n == number else phase for n, phase in enumerate(phases))


def serving(node, **arranged) -> BareContainer:  # noqa: F811
    """Start a worker that is captured while it serves."""
    source = node.start_as(BareContainer, "--serve", "--", *WORKER_COMMAND, "8", **gpu(**arranged))
    source.says("outcome COLD")
    return source


@pytest.mark.parametrize("number", each(CAPTURE, but=NO_DEVICES))
async def test_a_capture_goes_on_by_another_helper(node, monkeypatch, number):  # noqa: F811
    source = ready(node, **gpu())
    monkeypatch.setattr(engine_module, "CAPTURE", then(CAPTURE, number, lambda: end_helper(node)))
    outcome = await node.capture(source, f"helper-capture-{number}")
    assert outcome.ok, outcome


@pytest.mark.parametrize("number", each(RUNNING, but=NO_DEVICES))
async def test_so_does_that_of_a_running_worker(node, monkeypatch, number):  # noqa: F811
    source = serving(node)
    before = source.get()
    monkeypatch.setattr(engine_module, "RUNNING", then(RUNNING, number, lambda: end_helper(node)))
    outcome = await node.capture_running(source, f"helper-running-{number}")
    assert outcome.ok, outcome
    assert (before, ["R", "R"]) == (source.get(), states(source))


@pytest.mark.parametrize("number", each(RESTORE, but=(*NO_DEVICES, "pages")))
async def test_so_does_a_restore(node, monkeypatch, number):  # noqa: F811
    before, digest = await captured(node, f"helper-restore-{number}", **gpu())
    target = node.start(devices="nvidia0")
    target.init()
    monkeypatch.setattr(engine_module, "RESTORE", then(RESTORE, number, lambda: end_helper(node)))
    outcome = await node.restore(target, f"helper-restore-{number}", digest)
    assert outcome.ok, outcome
    assert (before, ["R", "R"]) == (target.get(), states(target))


@contextlib.contextmanager
def in_the_middle(node, act, container, state):  # noqa: F811
    """Act once the driver works on a worker that has this state until it is done."""
    over = threading.Event()

    def look() -> None:
        while not over.is_set():
            with contextlib.suppress(OSError, IndexError, ValueError):
                if is_at_work(node) and state == stand_in_cuda.state(tree(container)[0]):
                    act()
                    return

    with ThreadPoolExecutor(1) as watcher:
        looking = watcher.submit(look)
        try:
            yield
        finally:
            over.set()
        looking.result()


def is_at_work(node) -> bool:  # noqa: F811
    """The stand-in makes a process of its own for what takes time."""
    helper = node.environment.cuda._running()._process.pid
    return any(path.read_text() for path in Path(f"/proc/{helper}/task").glob("*/children"))


async def test_a_helper_that_ends_during_a_checkpoint(node):  # noqa: F811
    """The driver finishes it; another helper takes it back, and the worker serves on."""
    source = serving(node, slow="0500")
    before = source.get()
    with in_the_middle(node, lambda: end_helper(node), source, "L"):
        outcome = await node.capture_running(source, "helper-checkpoint")
    assert (False, AgentReason.GPU_FAILED) == (outcome.ok, outcome.reason), outcome
    assert "CUDA checkpoint of process" in outcome.message
    assert (before, ["R", "R"]) == (source.get(), states(source))


async def test_a_helper_that_ends_during_a_restore(node):  # noqa: F811
    """It cannot be made twice: the tree is ended, and the worker starts cold."""
    _, digest = await captured(node, "helper-restore", **gpu(slow="0500"))
    target = node.start(devices="nvidia0")
    target.init()
    with in_the_middle(node, lambda: end_helper(node), target, "C"):
        outcome = await node.restore(target, "helper-restore", digest)
    assert (False, AgentReason.GPU_FAILED) == (outcome.ok, outcome.reason), outcome
    assert {} == node.environment.gpus.used()
    assert target.says("outcome NOT_MANAGED").startswith(COLD)


async def test_another_attempt_restores_it_afresh(node):  # noqa: F811
    """The driver takes no second call for a process; another process is made of the same images."""
    before, digest = await captured(node, "helper-again", **gpu(slow="0500"))
    target = node.start(devices="nvidia0")
    target.init()
    with in_the_middle(node, lambda: end_helper(node), target, "C"):
        outcome = await node.restore(target, "helper-again", digest, attempts=2)
    assert outcome.ok, outcome
    assert [AgentReason.GPU_FAILED] == [reason for reason, _ in outcome.tried]
    assert (before, ["R", "R"]) == (target.get(), states(target))


def tree(container) -> list[int]:
    init = container.first_process()
    return descendants(init, namespace_mates(init))


def end_worker(container) -> None:
    worker = tree(container)[0]
    os.kill(worker, signal.SIGKILL)
    wait_for(lambda: not is_alive(worker), "the worker's end")


OF_CRIU = ("dump", "files", "thaw", "seal", "verify", "proof", "publish")
"""Phases after which the worker has ended anyway, or may end."""
WORKER_ENDED = "a process of the worker was ended while its device memory was taken: the container's memory limit?"
CONTAINER_ENDED = "the container ended while it was captured"


@pytest.mark.parametrize("phase", ["inspect", "gpu-lock"])
async def test_a_worker_that_ends_while_it_is_captured(node, monkeypatch, phase):  # noqa: F811
    source = ready(node, **gpu())
    (number,) = [n for n, each in enumerate(CAPTURE) if each.name == phase]
    monkeypatch.setattr(engine_module, "CAPTURE", then(CAPTURE, number, lambda: end_worker(source)))
    outcome = await node.capture(source, f"worker-capture-{phase}")
    assert (False, AgentReason.NO_WORKER) == (outcome.ok, outcome.reason), outcome
    assert outcome.message.startswith(WORKER_ENDED)
    assert 1 == source.code()


@pytest.mark.parametrize("number", each(RUNNING, but=(*NO_DEVICES, *OF_CRIU)))
async def test_a_running_worker_that_ends_while_it_is_captured(node, monkeypatch, number):  # noqa: F811
    """Standby ends with it, and so does the container."""
    source = serving(node)
    monkeypatch.setattr(engine_module, "RUNNING", then(RUNNING, number, lambda: end_worker(source)))
    outcome = await node.capture_running(source, f"worker-running-{number}")
    assert (False, AgentReason.NO_WORKER) == (outcome.ok, outcome.reason), outcome
    assert outcome.message.startswith((WORKER_ENDED, CONTAINER_ENDED, "the worker has ended"))
    wait_for(lambda: not node.environment.gpus.used(), "device memory free")


async def test_a_worker_that_ends_during_a_checkpoint(node):  # noqa: F811
    source = ready(node, **gpu(slow="0500"))
    with in_the_middle(node, lambda: end_worker(source), source, "L"):
        outcome = await node.capture(source, "worker-checkpoint")
    assert (False, AgentReason.NO_WORKER) == (outcome.ok, outcome.reason), outcome
    assert outcome.message.startswith(WORKER_ENDED)


async def test_a_worker_that_ends_during_a_restore(node):  # noqa: F811
    _, digest = await captured(node, "worker-restore", **gpu(slow="0500"))
    target = node.start(devices="nvidia0")
    target.init()
    with in_the_middle(node, lambda: end_worker(target), target, "C"):
        outcome = await node.restore(target, "worker-restore", digest)
    assert (False, AgentReason.RESTORE_FAILED) == (outcome.ok, outcome.reason), outcome
    assert "was ended while its device memory came back: the pod's memory limit?" in outcome.message
    assert {} == node.environment.gpus.used()
    assert target.says("outcome NOT_MANAGED").startswith(COLD)


async def test_a_cuda_process_that_is_stopped_is_refused_before_anything_is_touched(node):  # noqa: F811
    """The driver answers for it once it goes on, and would lock it then."""
    source = serving(node)
    before, stopped = source.get(), tree(source)[1]
    os.kill(stopped, signal.SIGSTOP)
    wait_for(lambda: status(stopped).state == "T", "the stop")
    outcome = await node.capture_running(source, "stopped")
    assert (False, AgentReason.GPU_BUSY) == (outcome.ok, outcome.reason), outcome
    assert "is stopped, so the driver cannot lock it" in outcome.message
    os.kill(stopped, signal.SIGCONT)
    wait_for(lambda: status(stopped).state == "S", "its going on")
    assert (before, ["R", "R"]) == (source.get(), states(source))
