"""The helper process and its client, on real processes; the driver is a stand-in with the driver's rules."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from agent.gpu.client import START_SECONDS, CudaHelper
from agent.gpu.cuda import CudaError, DriverVersion
from agent.gpu.driver import ProcessState
from contract.api.states import AgentReason
from tests.support import stand_in_cuda
from tests.support.fixtures.bare_container import wait_for

SECONDS = 10.0


@pytest.fixture(scope="module")
def library(tmp_path_factory) -> Path:
    return stand_in_cuda.build(tmp_path_factory.mktemp("cuda"))


@pytest.fixture
def cuda(library: Path) -> Iterator[CudaHelper]:
    helper = CudaHelper(lambda: str(library))
    yield helper
    helper.close()


@pytest.fixture
def worker() -> Iterator[Callable[..., int]]:
    """Starts processes; those that are CUDA processes are marked for the stand-in."""
    started: list[subprocess.Popen[bytes]] = []

    def start(*, is_cuda: bool = True, **arranged: str) -> int:
        marks = stand_in_cuda.marked(**arranged) if is_cuda else {}
        started.append(
            subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"], env=os.environ | marks)
        )
        return started[-1].pid

    yield start
    for process in started:
        process.kill()
        process.wait()


def helper_pid(cuda: CudaHelper) -> int:
    return cuda._running()._process.pid


def test_a_whole_round(cuda, worker):
    pid = worker()
    states = [cuda.state(pid, SECONDS)]
    for step in (
        lambda: cuda.lock(pid, SECONDS),
        lambda: cuda.checkpoint(pid, SECONDS),
        lambda: cuda.restore(pid, [], SECONDS),
        lambda: cuda.unlock(pid, SECONDS),
    ):
        step()
        states.append(cuda.state(pid, SECONDS))
    wanted = [ProcessState.RUNNING, ProcessState.LOCKED, ProcessState.CHECKPOINTED, ProcessState.LOCKED]
    assert [*wanted, ProcessState.RUNNING] == states


def test_cuda_processes_are_found_among_others(cuda, worker):
    one, other, gone = worker(), worker(is_cuda=False), worker(is_cuda=False)
    os.kill(gone, signal.SIGKILL)
    os.waitpid(gone, 0)
    assert {one: one} == cuda.find([one, other, gone])


def test_a_stopped_process_is_found_and_its_state_is_not_waited_for(cuda, worker):
    pid = worker()
    os.kill(pid, signal.SIGSTOP)
    assert {pid: pid} == cuda.find([pid])
    with pytest.raises(CudaError, match="did not return within 0 s") as late:
        cuda.state(pid, 0.2)
    assert AgentReason.GPU_BUSY == late.value.code
    os.kill(pid, signal.SIGCONT)
    assert ProcessState.RUNNING == cuda.state(pid, SECONDS)


def test_calls_in_flight_that_do_not_end(cuda, worker):
    pid = worker(busy="")
    with pytest.raises(CudaError, match="NOT_READY") as busy:
        cuda.lock(pid, 0.2)
    assert AgentReason.GPU_BUSY == busy.value.code
    assert ProcessState.RUNNING == cuda.state(pid, SECONDS)


@pytest.mark.parametrize("step", ["checkpoint", "unlock"])
def test_a_wrong_order_changes_nothing(cuda, worker, step):
    pid = worker()
    with pytest.raises(CudaError, match="ILLEGAL_STATE") as refused:
        getattr(cuda, step)(pid, SECONDS)
    assert AgentReason.GPU_FAILED == refused.value.code
    assert ProcessState.RUNNING == cuda.state(pid, SECONDS)


def test_a_restore_without_memory_cannot_be_tried_again(cuda, worker):
    pid = worker(oom="")
    cuda.lock(pid, SECONDS)
    cuda.checkpoint(pid, SECONDS)
    reasons = []
    for _ in range(2):
        with pytest.raises(CudaError) as failed:
            cuda.restore(pid, [], SECONDS)
        reasons.append(failed.value.code)
    assert [AgentReason.GPU_MEMORY, AgentReason.GPU_FAILED] == reasons


@pytest.mark.parametrize(
    ("code", "name", "reason"),
    [
        pytest.param("0100", "CUDA_ERROR_NO_DEVICE", AgentReason.GPU_MISSING, id="no-device"),
        pytest.param("0801", "CUDA_ERROR_NOT_SUPPORTED", AgentReason.GPU_UNSUPPORTED, id="not-supported"),
        pytest.param("0002", "CUDA_ERROR_OUT_OF_MEMORY", AgentReason.GPU_MEMORY, id="out-of-memory"),
        pytest.param("0304", "CUDA_ERROR_OPERATING_SYSTEM", AgentReason.GPU_FAILED, id="operating-system"),
        pytest.param("0001", "CUDA_ERROR_INVALID_VALUE", AgentReason.GPU_FAILED, id="invalid-value"),
        pytest.param("4711", "CUDA_ERROR_4711", AgentReason.GPU_FAILED, id="one-that-is-not-known"),
    ],
)
def test_an_error_of_the_driver_has_a_reason_and_its_name(cuda, worker, code, name, reason):
    pid = worker(fails=code)
    cuda.lock(pid, SECONDS)
    cuda.checkpoint(pid, SECONDS)
    with pytest.raises(CudaError, match=f"CUDA restore of process {pid}: {name}$") as failed:
        cuda.restore(pid, [], SECONDS)
    assert reason == failed.value.code


@pytest.mark.parametrize(
    ("pairs", "is_taken"),
    [
        pytest.param([], True, id="none"),
        pytest.param([("ab" * 16, "ab" * 16)], False, id="of-a-card-that-it-does-not-see"),
    ],
)
def test_pairs_name_exactly_what_a_process_sees(cuda, worker, pairs, is_taken):
    """This one sees none of a container; ``engine/devices/test_several_devices.py`` has those that see two."""
    pid = worker()
    cuda.lock(pid, SECONDS)
    cuda.checkpoint(pid, SECONDS)
    if is_taken:
        cuda.restore(pid, pairs, SECONDS)
        return
    with pytest.raises(CudaError, match="CUDA_ERROR_INVALID_VALUE"):
        cuda.restore(pid, pairs, SECONDS)


def test_the_processes_of_a_tree_go_in_parallel(cuda, worker):
    """Each takes its time; asked for at once, they are done in the time of one."""
    pids = [worker(slow="400") for _ in range(4)]
    for pid in pids:
        cuda.lock(pid, SECONDS)
    helper = cuda._running()
    calls = [helper.send("checkpoint", pid) for pid in pids]
    for call in calls:
        call.result(1.2)
    assert [ProcessState.CHECKPOINTED] * 4 == [cuda.state(pid, SECONDS) for pid in pids]


STEPS = [
    pytest.param("checkpoint", ProcessState.CHECKPOINTED, id="checkpoint"),
    pytest.param("restore", ProcessState.LOCKED, id="restore"),
]
"""Calls that take their time, and what they leave."""


def begin(cuda, pid, step):
    """Begin such a call; return it when the driver is at work: it makes processes of its own for that."""
    cuda.lock(pid, SECONDS)
    if step == "restore":
        stand_in_cuda.arrange(pid, "slow=0000")
        cuda.checkpoint(pid, SECONDS)
        stand_in_cuda.arrange(pid, "slow=0500")
    call = cuda._running().send(step, pid, pairs=[])
    wait_for(lambda: children(helper_pid(cuda)), "the driver at work")
    return call


def children(pid: int) -> list[str]:
    return " ".join(path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/children")).split()


@pytest.mark.parametrize(("step", "state"), STEPS)
def test_another_helper_goes_on_where_one_died(cuda, worker, step, state):
    """The driver finishes by itself what it has begun; asking for the state waits until then."""
    pid = worker(slow="0500")
    call = begin(cuda, pid, step)
    first = helper_pid(cuda)
    os.kill(first, signal.SIGKILL)
    with pytest.raises(CudaError, match="helper has ended"):
        call.result(SECONDS)
    assert state == cuda.state(pid, SECONDS)
    assert first != helper_pid(cuda)


def test_another_helper_lets_a_locked_process_go_on(cuda, worker):
    pid = worker()
    cuda.lock(pid, SECONDS)
    os.kill(helper_pid(cuda), signal.SIGKILL)
    wait_for(lambda: not cuda._helper.alive, "the helper's end is seen")
    assert ProcessState.LOCKED == cuda.state(pid, SECONDS)
    cuda.unlock(pid, SECONDS)
    assert ProcessState.RUNNING == cuda.state(pid, SECONDS)


def test_what_one_helper_does_not_get_another_does(cuda, worker):
    """The end of a helper may show in what is written to it first."""
    pid = worker()
    cuda.lock(pid, SECONDS)
    first = helper_pid(cuda)
    reading, writing = os.pipe()
    os.close(reading)
    os.dup2(writing, cuda._helper._process.stdin.fileno())
    os.close(writing)
    cuda.checkpoint(pid, SECONDS)
    assert ProcessState.CHECKPOINTED == cuda.state(pid, SECONDS)
    assert first != helper_pid(cuda)


def test_what_one_helper_did_not_answer_another_is_asked_if_it_changes_nothing(cuda, worker):
    pid = worker()
    first = helper_pid(cuda)
    os.kill(first, signal.SIGSTOP)
    asking = ThreadPoolExecutor(2)
    calls = [asking.submit(cuda.state, pid, SECONDS), asking.submit(cuda.find, [pid])]
    wait_for(lambda: 2 == len(cuda._helper._pending), "both calls")
    os.kill(first, signal.SIGKILL)
    assert [ProcessState.RUNNING, {pid: pid}] == [call.result(SECONDS) for call in calls]


@pytest.mark.parametrize(("step", "_"), STEPS)
def test_a_worker_that_dies_is_an_error_and_not_the_end_of_the_helper(cuda, worker, step, _):
    pid, other = worker(slow="0500"), worker()
    call = begin(cuda, pid, step)
    first = helper_pid(cuda)
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(Exception, match="CUDA_ERROR_OPERATING_SYSTEM"):
        call.result(SECONDS)
    assert {} == cuda.find([pid])
    assert (ProcessState.RUNNING, first) == (cuda.state(other, SECONDS), helper_pid(cuda))


def test_a_node_without_a_driver_has_no_cuda_processes(worker, tmp_path):
    cuda = CudaHelper(lambda: str(tmp_path / "libcuda.so.1"))
    assert {} == cuda.find([worker()])
    assert cuda.driver() is None
    assert [] == cuda.devices()
    with pytest.raises(CudaError, match="the node has no CUDA driver") as missing:
        cuda.lock(worker(), SECONDS)
    assert AgentReason.GPU_MISSING == missing.value.code


def test_a_node_without_a_driver_says_so_once(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("agent.gpu.client.ABSENT_SECONDS", 0.0)
    caplog.set_level("INFO", "agent.gpu.client")
    cuda = CudaHelper(lambda: str(tmp_path / "libcuda.so.1"))
    assert [None, None, None] == [cuda.driver() for _ in range(3)]
    assert 1 == caplog.text.count("no CUDA driver")


@pytest.mark.parametrize(
    "program",
    [
        pytest.param("/no/such/interpreter", id="cannot-be-started"),
        pytest.param("/bin/true", id="ends-at-once"),
        pytest.param("/bin/echo", id="says-something-else"),
    ],
)
def test_a_helper_that_does_not_come_up_is_no_driver(library, monkeypatch, program):
    monkeypatch.setattr(sys, "executable", program)
    begun = time.monotonic()
    assert [] == CudaHelper(lambda: str(library)).devices()
    assert time.monotonic() - begun < START_SECONDS / 2


def test_the_driver_and_its_devices_are_described(cuda, worker):
    pid = worker(mib="0512")
    assert DriverVersion("580.0.1", "13.0") == cuda.driver()
    (device,) = cuda.devices()
    assert ("ab" * 16, "Stand-in GPU", 0) == (device.uuid, device.model, device.minor)
    assert 512 << 20 == device.total - device.free
    assert {pid: {device.uuid: 512 << 20}} == cuda.used()


def test_a_checkpoint_gives_device_memory_back(cuda, worker):
    pid = worker(mib="0512")
    cuda.lock(pid, SECONDS)
    cuda.checkpoint(pid, SECONDS)
    assert {} == cuda.used()


def test_the_helper_ends_with_its_agent(library):
    """Also where the agent is killed."""
    code = (
        "import sys; from agent.gpu.client import CudaHelper; c = CudaHelper(lambda: sys.argv[1]); c.devices(); "
        "print(c._helper._process.pid, flush=True); sys.stdin.read()"
    )
    environment = {"PYTHONPATH": str(Path(__file__).parents[3]), "PATH": os.environ["PATH"]}
    argv = [sys.executable, "-c", code, str(library)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) as agent:
        helper = int(agent.stdout.readline())
        agent.kill()
    wait_for(lambda: not Path(f"/proc/{helper}").exists(), "the helper ends")
