"""A stopped CUDA process gets its device state back while only its restore thread runs; run by `make test-gpu`."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from agent.gpu.client import CudaHelper
from linux.ptrace.thread_hold import ThreadHold
from tests.gpu.test_cuda_on_a_card import GIBIBYTE, SECONDS, cuda, down, free, start, up  # noqa: F401 - fixtures

pytestmark = pytest.mark.gpu


def stop(pid: int) -> None:
    os.kill(pid, signal.SIGSTOP)
    await_stopped(pid)


def await_stopped(pid: int) -> None:
    end = time.monotonic() + SECONDS
    while not is_stopped(pid):
        assert time.monotonic() < end
        time.sleep(0.005)


def is_stopped(pid: int) -> bool:
    stats = ((task / "stat").read_text() for task in Path(f"/proc/{pid}/task").iterdir())
    return {"T"} == {stat.rpartition(") ")[2][0] for stat in stats}


def restored_under_hold(cuda: CudaHelper, pid: int) -> float:  # noqa: F811
    """Restore and unlock a stopped process; seconds in which its restore thread ran."""
    begun = time.monotonic()
    with ThreadPoolExecutor(1) as pool, ThreadHold([pid], set(cuda.find([pid]).values())) as hold:
        work = pool.submit(up, cuda, pid)
        while not work.done():
            hold.pump()
            time.sleep(0.0005)
        work.result()
    return time.monotonic() - begun


def test_a_stopped_process_comes_back_and_is_stopped_as_before(
    cuda: CudaHelper,  # noqa: F811
    start: Callable,  # noqa: F811
    figure: Callable[[str], None],
):
    worker, twin = start(mebibytes=4096), start(mebibytes=4096)
    assert worker.step() == twin.step()
    for _ in range(3):
        down(cuda, worker.pid)
        stop(worker.pid)
        seconds = restored_under_hold(cuda, worker.pid)
        await_stopped(worker.pid)
        os.kill(worker.pid, signal.SIGCONT)
        assert worker.step() == twin.step()
    threads = len(list(Path(f"/proc/{worker.pid}/task").iterdir()))
    figure(f"4 GiB, {threads} threads: held, restored, unlocked and stopped again in {seconds:.2f} s")


HOLDER = """
import sys, time
from agent.gpu.client import CudaHelper
from linux.ptrace.thread_hold import ThreadHold
cuda, pid = CudaHelper(), int(sys.argv[1])
tids = set(cuda.find([pid]).values())
with ThreadHold([pid], tids) as hold:
    cuda._running().send("restore", pid, pairs=[])
    print("restoring", flush=True)
    while True:
        hold.pump()
        time.sleep(0.001)
"""


def test_an_agent_that_dies_in_the_middle_takes_the_worker_with_it(
    cuda: CudaHelper,  # noqa: F811
    start: Callable,  # noqa: F811
    free: Callable[[], int],  # noqa: F811
):
    """Half a device state must not serve: the pod's standby sees its worker end, and kubelet restarts the container."""
    before = free()
    worker = start(mebibytes=8192)
    worker.step()
    down(cuda, worker.pid)
    stop(worker.pid)
    environment = os.environ | {"PYTHONPATH": ":".join(sys.path)}
    argv = [sys.executable, "-c", HOLDER, str(worker.pid)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env=environment) as holder:
        assert "restoring\n" == holder.stdout.readline()
        threading.Event().wait(0.3)
        holder.kill()
    assert -signal.SIGKILL == worker.process.wait(SECONDS)
    end = time.monotonic() + SECONDS
    while before - free() > GIBIBYTE and time.monotonic() < end:
        time.sleep(0.05)
    assert before - free() < GIBIBYTE
