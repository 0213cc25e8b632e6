"""The phase of a restore that gives restored processes their GPUs back, while the tree is still stopped.

The driver needs one thread of each process to run: all others are held by ptrace, so no line of the worker runs before
standby has said that this is a restore.
"""

import time
from collections.abc import Mapping, Sequence
from typing import Final

from agent.errors import ContainerError
from agent.executor.gpu.device_memory import Load
from agent.executor.gpu.shared_memory import share_again
from agent.gpu.cuda import Cuda, Gpus
from agent.gpu.device_memory import Conversation
from contract.api.reports import ReportPhase, Step
from contract.api.states import AgentReason
from linux.proc import Status
from linux.ptrace.thread_hold import HoldError, ThreadHold

FREE_SECONDS: Final = 20.0
"""How long the driver may take to free the memory of processes that were killed."""


def find_cuda_processes(cuda: Cuda, tree: Mapping[int, Status], expected: Sequence[int]) -> Mapping[int, int]:
    """Return the tree's CUDA processes, each with its restore thread.

    Args:
        cuda: the driver.
        tree: host pid -> status, of every restored process.
        expected: pids inside the container that were CUDA processes at the capture.

    Raises:
        ContainerError: they are not those of the capture.
    """
    found = cuda.find(tree)
    inner = sorted(tree[pid].inner_pid for pid in found)
    if inner != sorted(expected):
        raise ContainerError(
            AgentReason.GPU_FAILED, f"restored CUDA processes are {inner}, those of the capture were {list(expected)}"
        )
    return found


def bring_back(
    cuda: Cuda,
    tree: Sequence[int],
    threads: Mapping[int, int],
    pairs: Sequence[tuple[str, str]],
    loads: Mapping[int, Load],
    seconds: float,
) -> Sequence[Step]:
    """Restore and unlock all CUDA processes at once, while no other thread of the tree runs; then fill their memory.

    Returns:
        The step of the one that took longest to fill; none if there was nothing to fill.

    Raises:
        CudaError, ContainerError: one of them cannot have its state; the tree can only be killed.
    """

    def restore(pid: int) -> None:
        cuda.restore(pid, pairs, seconds)
        cuda.unlock(pid, seconds)
        if load := loads.get(pid):
            since = time.monotonic()
            talks[pid] = load.talk()
            load.run(talks[pid], seconds)
            filled.append(Step(ReportPhase.GPU_FILL, since, time.monotonic() - since))

    filled: list[Step] = []
    talks: dict[int, Conversation] = {}
    running = {*threads.values(), *(tid for load in loads.values() for tid in load.library.threads)}
    try:
        with ThreadHold(tree, running) as hold:
            try:
                hold.run(restore, threads)
                if any(load.shares for load in loads.values()):
                    inner = {pid: load.library.inner_pid for pid, load in loads.items()}
                    hold.run(lambda _: share_again(talks, inner, seconds), list(talks)[:1])
            finally:
                hold.run(lambda pid: talks[pid].close(), talks)
    except HoldError as error:
        raise ContainerError(AgentReason.GPU_FAILED, f"the restored processes could not be held: {error}") from error
    return sorted(filled, key=lambda step: step.seconds)[-1:]


def await_freed(gpus: Gpus, pids: Sequence[int], patience: float = FREE_SECONDS) -> bool:
    """Wait until no killed process holds device memory any more; False if one still does."""
    end = time.monotonic() + patience
    while gpus.used().keys() & set(pids):
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True
