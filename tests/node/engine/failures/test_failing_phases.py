"""Each phase of a real capture and restore fails in turn, after its work: nothing of it is left behind."""

import os
import subprocess
from dataclasses import replace

import pytest

from agent.executor import engine as engine_module
from agent.executor.capture.phases import CAPTURE
from agent.executor.restore.phases import RESTORE
from contract.api.states import AgentReason
from tests.support.fixtures.engine import COLD, captured, until_ready

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: namespaces and criu")


def failing(phases, number):
    """The real phases; one of them fails when its work is done."""

    def run(state):
        phases[number].run(state)
        raise OSError("injected")

    return tuple(replace(phase, run=run) if n == number else phase for n, phase in enumerate(phases))


def each(phases, but=()):
    return [pytest.param(n, id=p.name) for n, p in enumerate(phases) if p.name not in but]


@pytest.mark.parametrize(
    "number", each(CAPTURE, but=("canary", "gpu-lock", "gpu-save", "gpu-checkpoint", "weights", "verdict"))
)
async def test_a_capture_that_fails_leaves_nothing_in_storage(node, monkeypatch, number):
    name = f"capture-{number}"
    source = node.start("--capture")
    until_ready(source)
    monkeypatch.setattr(engine_module, "CAPTURE", failing(CAPTURE, number))
    outcome = await node.capture(source, name)
    assert (False, AgentReason.INTERNAL_ERROR) == (outcome.ok, outcome.reason)
    assert "injected" in outcome.message
    assert [] == [path for path in (node.store / name).rglob("*") if path.is_file()]
    assert [] == list((node.store / name).glob("tmp/*"))


@pytest.fixture
def small_store(node):
    """Room for less than any worker has."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "small", node.store], check=True)
    yield node.store
    subprocess.run(["umount", node.store], check=True)


async def test_a_capture_without_room_says_so_and_leaves_nothing(node, small_store):
    source = node.start("--capture")
    until_ready(source)
    outcome = await node.capture(source, "small")
    assert (False, AgentReason.STORAGE_UNWRITABLE) == (outcome.ok, outcome.reason)
    assert "checkpoint storage: No space left on device; is it full?" in outcome.message
    assert [] == [path for path in small_store.rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    "number", each(RESTORE, but=("canary", "verdict", "ipc", "gpu-prefetch", "gpu-restore", "pages"))
)
async def test_a_restore_that_fails_leaves_nothing_in_the_container(node, monkeypatch, number):
    """Standby starts cold only if the verdict says that all is undone, and only if it finds that no process is left.

    The last phase is left out: when the verdict is written, standby has woken the tree.
    """
    name = f"restore-{number}"
    _, digest = await captured(node, name)
    target = node.start()
    target.init()
    monkeypatch.setattr(engine_module, "RESTORE", failing(RESTORE, number))
    outcome = await node.restore(target, name, digest)
    assert (False, AgentReason.INTERNAL_ERROR) == (outcome.ok, outcome.reason)
    assert target.says("outcome NOT_MANAGED").startswith(COLD)


def failing_once(phases, number):
    """The same, but only the first time."""
    phase, left = phases[number], ["injected"]

    def run(state):
        seconds = phase.run(state)
        if left:
            raise OSError(left.pop())
        return seconds

    return tuple(replace(phase, run=run) if n == number else each for n, each in enumerate(phases))


@pytest.mark.parametrize(
    "number", each(RESTORE, but=("canary", "verdict", "ipc", "gpu-prefetch", "gpu-restore", "pages"))
)
async def test_another_attempt_begins_with_nothing_of_the_one_before(node, monkeypatch, number):
    """The worker is what it was, once: its files, its memory, its pids."""
    name = f"again-{number}"
    before, digest = await captured(node, name)
    target = node.start()
    target.init()
    monkeypatch.setattr(engine_module, "RESTORE", failing_once(RESTORE, number))
    outcome = await node.restore(target, name, digest, attempts=2)
    assert outcome.ok, outcome
    assert [AgentReason.INTERNAL_ERROR] == [reason for reason, _ in outcome.tried]
    assert before == target.get()
