"""The CUDA half on a real card: what docs say of the driver, each row seen again. Run by `make test-gpu`."""

import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.gpu.client import CudaHelper
from agent.gpu.cuda import CudaError
from agent.gpu.driver import LIBRARY, ProcessState
from contract.api.states import AgentReason

pytestmark = pytest.mark.gpu

WORKER = Path(__file__).parent / "workers/cuda_worker.py"
SECONDS = 60.0
GIBIBYTE = 1 << 30


class Worker:
    """One CUDA process; asked by lines."""

    def __init__(self, kind: str, mebibytes: int) -> None:
        argv = [sys.executable, str(WORKER), kind, str(mebibytes)]
        self.process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.pid = self.process.pid
        assert {"ready": True} == self.answer()

    def answer(self):
        return json.loads(self.process.stdout.readline())

    def say(self, what: str) -> None:
        self.process.stdin.write(f"{what}\n")
        self.process.stdin.flush()

    def step(self):
        self.say("step")
        return self.answer()["value"]

    def end(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture
def cuda() -> Iterator[CudaHelper]:
    helper = CudaHelper()
    assert helper.devices(), "no card"
    yield helper
    helper.close()


@pytest.fixture
def start() -> Iterator[Callable[..., Worker]]:
    started: list[Worker] = []

    def worker(kind: str = "torch", mebibytes: int = 1024) -> Worker:
        started.append(Worker(kind, mebibytes))
        return started[-1]

    yield worker
    for each in started:
        each.end()


@pytest.fixture(scope="module")
def free() -> Callable[[], int]:
    """Free device memory, bytes, as NVML has it: no context of ours takes any."""
    nvml = ctypes.CDLL("libnvidia-ml.so.1")
    device = ctypes.c_void_p()
    assert 0 == nvml.nvmlInit_v2()
    assert 0 == nvml.nvmlDeviceGetHandleByIndex_v2(0, ctypes.byref(device))

    def read() -> int:
        memory = (ctypes.c_ulonglong * 3)()
        assert 0 == nvml.nvmlDeviceGetMemoryInfo(device, memory)
        return memory[1]

    return read


def down(cuda: CudaHelper, pid: int) -> None:
    cuda.lock(pid, SECONDS)
    cuda.checkpoint(pid, SECONDS)


def up(cuda: CudaHelper, pid: int) -> None:
    cuda.restore(pid, [], SECONDS)
    cuda.unlock(pid, SECONDS)


def reason(call: Callable[[], None]) -> tuple[str, str]:
    with pytest.raises(CudaError) as failed:
        call()
    return failed.value.code, str(failed.value).rpartition(" ")[2]


def test_a_round_gives_the_memory_back_and_the_same_results(cuda, start, free, figure):
    worker, twin = start(mebibytes=4096), start(mebibytes=4096)
    assert worker.step() == twin.step()
    before = free()
    seconds = []
    for call in (lambda: down(cuda, worker.pid), lambda: up(cuda, worker.pid)):
        begun = time.monotonic()
        call()
        seconds.append(time.monotonic() - begun)
        if len(seconds) == 1:
            assert free() - before > 4 * GIBIBYTE
            assert ProcessState.CHECKPOINTED == cuda.state(worker.pid, SECONDS)
    assert worker.step() == twin.step()
    figure(f"4 GiB: down {seconds[0]:.2f} s, up {seconds[1]:.2f} s")


def test_all_kinds_of_cuda_processes_are_found(cuda, start):
    """NVML alone and cuInit alone hold device files, so they count."""
    kinds = {kind: start(kind, 64) for kind in ("torch", "init", "nvml", "plain")}
    for worker in kinds.values():
        worker.step()
    found = cuda.find([worker.pid for worker in kinds.values()])
    assert {"torch", "init", "nvml"} == {kind for kind, worker in kinds.items() if worker.pid in found}
    for kind in ("init", "nvml"):
        before = kinds[kind].step()
        down(cuda, kinds[kind].pid)
        up(cuda, kinds[kind].pid)
        assert before == kinds[kind].step()


def test_a_stopped_process_is_found_and_its_state_does_not_come(cuda, start):
    worker = start(mebibytes=64)
    worker.step()
    os.kill(worker.pid, signal.SIGSTOP)
    assert [worker.pid] == list(cuda.find([worker.pid]))
    with pytest.raises(CudaError, match="did not return"):
        cuda.state(worker.pid, 1.0)
    os.kill(worker.pid, signal.SIGCONT)
    assert ProcessState.RUNNING == cuda.state(worker.pid, SECONDS)


def test_a_kernel_in_flight_outlasts_the_lock(cuda, start):
    worker = start(mebibytes=64)
    worker.step()
    worker.say("busy")
    worker.answer()
    assert (AgentReason.GPU_BUSY, "CUDA_ERROR_NOT_READY") == reason(lambda: cuda.lock(worker.pid, 0.2))
    assert ProcessState.RUNNING == cuda.state(worker.pid, SECONDS)
    cuda.lock(worker.pid, SECONDS)
    cuda.unlock(worker.pid, SECONDS)


@pytest.mark.parametrize("step", ["checkpoint", "unlock"])
def test_a_wrong_order_changes_nothing(cuda, start, step):
    worker = start(mebibytes=64)
    before = worker.step()
    call = getattr(cuda, step)
    assert (AgentReason.GPU_FAILED, "CUDA_ERROR_ILLEGAL_STATE") == reason(lambda: call(worker.pid, SECONDS))
    assert before != worker.step()  # it goes on: each step is another


@pytest.mark.parametrize(
    ("call", "state"),
    [
        pytest.param("", ProcessState.LOCKED, id="with-the-lock-held"),
        pytest.param("checkpoint", ProcessState.CHECKPOINTED, id="checkpoint"),
        pytest.param("restore", ProcessState.LOCKED, id="restore"),
    ],
)
def test_a_helper_that_dies_loses_nothing(cuda, start, call, state):
    """The driver finishes; asking for the state waits until then; another helper goes on from there."""
    worker, twin = start(mebibytes=8192), start(mebibytes=8192)
    assert worker.step() == twin.step()
    cuda.lock(worker.pid, SECONDS)
    if call == "restore":
        cuda.checkpoint(worker.pid, SECONDS)
    if call:
        cuda._running().send(call, worker.pid, **({"pairs": []} if call == "restore" else {}))
        time.sleep(0.3)  # well inside: 8 GiB take seconds
    os.kill(cuda._helper._process.pid, signal.SIGKILL)
    other = CudaHelper()
    try:
        assert state == other.state(worker.pid, SECONDS)
        if state == ProcessState.CHECKPOINTED:
            other.restore(worker.pid, [], SECONDS)
        other.unlock(worker.pid, SECONDS)
    finally:
        other.close()
    assert worker.step() == twin.step()


def test_a_worker_that_dies_while_it_is_restored_gives_its_memory_back(cuda, start, free):
    before = free()
    worker = start(mebibytes=8192)
    worker.step()
    down(cuda, worker.pid)
    call = cuda._running().send("restore", worker.pid, pairs=[])
    time.sleep(0.2)
    worker.end()
    with pytest.raises(Exception, match="CUDA_ERROR"):
        call.result(SECONDS)
    end = time.monotonic() + SECONDS
    while before - free() > GIBIBYTE and time.monotonic() < end:
        time.sleep(0.05)
    assert before - free() < GIBIBYTE


def test_a_restore_without_memory_is_the_last_one(cuda, start, free):
    worker = start(mebibytes=20480)
    worker.step()
    down(cuda, worker.pid)
    hog = start(mebibytes=(free() >> 20) - 10240)
    first = reason(lambda: cuda.restore(worker.pid, [], SECONDS))
    hog.end()
    again = reason(lambda: cuda.restore(worker.pid, [], SECONDS))
    assert (AgentReason.GPU_MEMORY, "CUDA_ERROR_OUT_OF_MEMORY") == first
    assert (AgentReason.GPU_FAILED, "CUDA_ERROR_OPERATING_SYSTEM") == again


def test_a_node_whose_driver_is_elsewhere(tmp_path):
    assert [] == CudaHelper(lambda: str(tmp_path / LIBRARY)).devices()


def test_fifty_rounds_leave_nothing(cuda, start, free, figure):
    worker = start(mebibytes=1024)
    worker.step()
    helper = Path(f"/proc/{cuda._helper._process.pid}")
    counts = []
    for _ in range(50):
        down(cuda, worker.pid)
        up(cuda, worker.pid)
        worker.step()
        counts.append(
            (free(), len(list((helper / "fd").iterdir())), len(list(Path(f"/proc/{worker.pid}/fd").iterdir())))
        )
    assert counts[4] == counts[-1]
    figure(f"50 rounds: free device memory and descriptors {counts[4]} after 5, {counts[-1]} after 50")
