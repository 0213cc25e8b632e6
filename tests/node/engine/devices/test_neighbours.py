"""Device memory that comes from a worker that was restored before: the real library and criu; a stand-in driver.

The stand-in runs the kernel that sums memory, and has two devices where the agent looks; each worker sees one of them.
"""

import json
import logging
import os
import shutil
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from agent.executor.api import ExecutionResult
from agent.executor.gpu.neighbours import Neighbours
from agent.gpu.ahead.resident import ResidentPrefetcher
from agent.gpu.ranges import UNIT
from contract.api import keys
from contract.api.engine import Memory, Way
from tests.support import stand_in_cuda
from tests.support.fixtures import engine as engine_fixtures
from tests.support.fixtures.bare_container import PYTHON, BareContainer, wait_for
from tests.support.fixtures.engine import Node, captured_after_step, gpu_node

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: namespaces and criu")

MIB = 1 << 20
DATA, ZEROS = 32, 64


@pytest.fixture(scope="module")
def library(tmp_path_factory, folder):
    stand_in_cuda.build_device(folder[0] / "tools/libcuda.so.1", devices=2)
    shutil.copy(Path(engine_fixtures.__file__).with_name("device_worker.py"), folder[0] / "tools/device_worker.py")
    return stand_in_cuda.build(tmp_path_factory.mktemp("cuda"), devices=2)


@pytest.fixture
def node(folder, library) -> Iterator[Node]:
    prefetcher = ResidentPrefetcher(lambda: str(folder[0] / "tools/libcuda.so.1"), budget=512 * MIB, sums=True)
    with gpu_node(folder, library, prefetcher=prefetcher, neighbours=Neighbours(least=UNIT)) as made:
        yield made
    prefetcher.close()


def start(node: Node, *arguments: str, card: str = "nvidia0") -> BareContainer:
    marks = stand_in_cuda.marked(mib="0400") | {keys.ENV_DEVICE_MEMORY: "/tools/device-memory.so"}
    command = [PYTHON, "/tools/device_worker.py", str(DATA), str(ZEROS)]
    env = marks | {"STAND_IN_DEVICES": "1"}
    return node.start_as(BareContainer, *arguments, "--", *command, devices=card, env=env)


async def captured(node: Node, name: str) -> tuple[list[object], str]:
    return await captured_after_step(node, start(node, "--capture"), name)


async def restored(node: Node, name: str, digest: str, card: str = "nvidia0") -> tuple[BareContainer, ExecutionResult]:
    target = start(node, card=card)
    target.init()
    outcome = await node.restore(target, name, digest)
    assert outcome.ok, (outcome, target.text())
    return target, outcome


def ways(outcome: ExecutionResult) -> Mapping[Way, int]:
    """Return how much of the device memory that is outside the image came in each way."""
    found = [each for each in outcome.engine.came if each.memory is Memory.DEVICE and each.way is not Way.IMAGE]
    return {each.way: each.bytes for each in found}


def holds(target: BareContainer) -> list[tuple[int, int, str]]:
    return json.loads(wait_for(target.get, "an answer"))


def change(node: Node, target: BareContainer, at: int) -> None:
    """Write a byte into a worker's device memory, as a kernel of it would."""
    (worker,) = node.environment.neighbours._workers
    (library,) = worker.libraries.values()
    with Path(f"/proc/{library.pid}/mem").open("r+b", buffering=0) as memory:
        memory.seek(at)
        memory.write(b"\xff")


async def test_device_memory_comes_from_the_worker_that_has_it(node):
    before, digest = await captured(node, "lent")
    first, outcome = await restored(node, "lent", digest)
    (stored,) = ways(outcome).values()
    assert {Way.AHEAD: stored} == ways(outcome)
    second, outcome = await restored(node, "lent", digest)
    assert {Way.LENT: stored} == ways(outcome)
    assert "copied ahead from another worker's GPU" in str(outcome.engine)
    assert [before, before] == [holds(first), holds(second)]
    assert len(before) + 1 == len(json.loads(first.get("/grow"))), "who lends goes on"
    assert len(before) + 1 == len(json.loads(second.get("/grow")))


async def test_a_worker_on_another_card_than_at_its_capture_is_given_memory_and_lends(node):
    """The driver gives it no memory of another process: CUDA_ERROR_INVALID_DEVICE, seen on H200 with driver 580."""
    before, digest = await captured(node, "lent-across")
    first, outcome = await restored(node, "lent-across", digest, "nvidia1")
    (stored,) = ways(outcome).values()
    assert {Way.AHEAD: stored} == ways(outcome)
    second, outcome = await restored(node, "lent-across", digest)
    assert {Way.LENT: stored} == ways(outcome)
    third, outcome = await restored(node, "lent-across", digest, "nvidia1")
    assert {Way.LENT: stored} == ways(outcome)
    assert [before] * 3 == [holds(each) for each in (first, second, third)]


async def test_what_the_lender_has_changed_is_read_from_the_files(node):
    before, digest = await captured(node, "lent-changed")
    first, outcome = await restored(node, "lent-changed", digest)
    (stored,) = ways(outcome).values()
    at = max(before, key=lambda each: each[1] if each[1] <= DATA * MIB else 0)[0]
    change(node, first, at + 5 * MIB)
    second, outcome = await restored(node, "lent-changed", digest)
    assert {Way.LENT: stored - UNIT, Way.AHEAD: UNIT} == ways(outcome)
    assert before == holds(second)
    assert before != holds(first)


async def test_no_one_lends_what_has_ended(node):
    before, digest = await captured(node, "lent-ended")
    first, outcome = await restored(node, "lent-ended", digest)
    came = ways(outcome)
    first.close()
    node.containers.remove(first)
    second, outcome = await restored(node, "lent-ended", digest)
    assert (came, before) == (ways(outcome), holds(second))


async def test_one_that_does_not_answer_is_not_asked_again(node, caplog):
    caplog.set_level(logging.INFO, "agent.executor.gpu.neighbours")
    before, digest = await captured(node, "lent-silent")
    first, outcome = await restored(node, "lent-silent", digest)
    came = ways(outcome)
    assert before == holds(first), "it runs: standby wakes it no more"
    (worker,) = node.environment.neighbours._workers
    (library,) = worker.libraries.values()
    os.kill(library.pid, signal.SIGSTOP)
    status = Path(f"/proc/{library.pid}/status")
    wait_for(lambda: "T (stopped)" in status.read_text(), "its stop")
    second, outcome = await restored(node, "lent-silent", digest)
    assert (came, before) == (ways(outcome), holds(second))
    assert "does not lend" in caplog.text
    assert worker not in node.environment.neighbours._workers
    os.kill(library.pid, signal.SIGCONT)


async def test_one_that_captures_a_graph_lends_nothing(node, caplog):
    caplog.set_level(logging.INFO, "agent.executor.gpu.neighbours")
    before, digest = await captured(node, "lent-graph")
    first, outcome = await restored(node, "lent-graph", digest)
    came = ways(outcome)
    wait_for(lambda: first.get("/record"), "an answer")
    second, outcome = await restored(node, "lent-graph", digest)
    assert (came, before) == (ways(outcome), holds(second))
    assert "lend memory while it captures a CUDA graph" in caplog.text
    assert [0] == json.loads(first.get("/recorded")), "the graph is whole"


async def test_one_that_is_captured_while_it_runs_lends_no_more(node):
    before, digest = await captured(node, "lent-running")
    first, _ = await restored(node, "lent-running", digest)
    assert before == holds(first)
    outcome = await node.capture_running(first, "lent-running-again")
    assert outcome.ok, outcome
    assert [] == node.environment.neighbours._workers
    second, outcome = await restored(node, "lent-running-again", outcome.manifest_digest)
    assert Way.LENT not in ways(outcome)
    assert [before, before] == [holds(first), holds(second)]


async def test_workers_of_another_artifact_lend_nothing(node):
    _, digest = await captured(node, "lent-one")
    await restored(node, "lent-one", digest)
    before, digest = await captured(node, "lent-other")
    target, outcome = await restored(node, "lent-other", digest)
    assert Way.LENT not in ways(outcome)
    assert before == holds(target)
