"""The phases of a capture that have to do with GPUs: CUDA calls are locked out, then device memory becomes host memory.

Undone in place, in reverse: the worker goes on as it was.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Final

from agent.container.devices import gpu_minors
from agent.container.inspection import Worker
from agent.errors import ContainerError, RefusedError
from agent.executor.environment import NodeEnvironment
from agent.executor.gpu.device_memory import OutsideMemory
from agent.executor.gpu.plan import (
    GpuUse,
    container_devices,
    devices_of_files,
    refuse_denied_driver,
    refuse_inherited_devices,
    refuse_mig,
    refuse_unseen_devices,
)
from agent.gpu.cuda import Cuda, CudaError, Device
from agent.gpu.driver import ProcessState
from artifact.parts.gpu import DeviceMemory
from contract.api.states import AgentReason
from linux.proc import files_in_use, is_alive, is_ending, status

LOCK_SECONDS: Final = 10.0
"""How long CUDA calls in flight may take. A worker that says that it is ready is idle."""
STATE_SECONDS: Final = 60.0
"""The driver answers once a call that it works on is done: 16 GiB were seen to take 10.5 s."""


def look_at_gpus(worker: Worker, init_pid: int, environment: NodeEnvironment) -> GpuUse | None:
    """Return what the worker's CUDA processes hold; None if it has none.

    Raises:
        RefusedError: it uses GPUs in a way that the agent cannot see, or by a driver that is denied.
        CudaError: the driver fails.
    """
    found = environment.cuda.find(worker.pids)
    driver = environment.gpus.driver() if found else None
    if driver is None:
        refuse_unseen_devices(worker.in_use)
        return None
    refuse_denied_driver(driver, environment.denied_drivers)
    _refuse_stopped(found, environment.proc)
    _refuse_forked(set(worker.pids) - set(found), environment.proc)
    devices = container_devices(environment.gpus.devices(), gpu_minors(init_pid, environment.proc))
    refuse_mig(devices)
    held, used = environment.gpus.used(), dict[str, int]()
    for pid in found:
        for uuid, size in held.get(pid, {}).items():
            used[uuid] = used.get(uuid, 0) + size
    return GpuUse(
        driver=driver,
        devices=devices,
        processes={pid: status(pid, environment.proc).inner_pid for pid in found},
        used=used,
    )


def _refuse_stopped(pids: Collection[int], proc: Path) -> None:
    """Refuse what the driver could not lock, nor answer for until it runs again."""
    for pid in pids:
        if (about := status(pid, proc)).state in "Tt":
            words = f"CUDA process {about.inner_pid} is stopped, so the driver cannot lock it: continue it (SIGCONT)"
            raise RefusedError(AgentReason.GPU_BUSY, words)


def _refuse_forked(pids: Collection[int], proc: Path) -> None:
    """Refuse processes that have devices open of which the driver does not know."""
    opened = {}
    for pid in pids:
        with suppress(FileNotFoundError, ProcessLookupError):
            opened[status(pid, proc).inner_pid] = files_in_use(pid, proc)
    refuse_inherited_devices(opened)


def describe_saved(
    memory: OutsideMemory, names: Mapping[int, Sequence[str]], devices: Sequence[Device]
) -> dict[int, DeviceMemory]:
    """Return what the manifest says of device memory that was taken out, by host pid.

    Args:
        memory: that was.
        names: of each process's files.
        devices: of the container.
    """
    return {
        pid: DeviceMemory(
            process=held.library.inner_pid,
            files=list(names[pid]),
            bytes=held.bytes,
            devices=devices_of_files(memory.saved[pid].devices, devices),
            imported=held.imported,
            discarded=memory.saved[pid].discarded,
        )
        for pid, held in memory.held.items()
    }


def lock_processes(cuda: Cuda, pids: Collection[int]) -> None:
    """Keep all of them from CUDA calls."""
    _each(pids, _of_living(lambda pid: cuda.lock(pid, LOCK_SECONDS)))


def checkpoint_processes(cuda: Cuda, pids: Collection[int], seconds: float) -> None:
    """Move the device memory of all of them to host memory."""
    _each(pids, _of_living(lambda pid: cuda.checkpoint(pid, seconds)))


def _of_living(act: Callable[[int], None]) -> Callable[[int], None]:
    """Say of a process that has ended that it has: the driver has no name for that."""

    def run(pid: int) -> None:
        try:
            act(pid)
        except CudaError as error:
            if not is_ending(pid, pid):
                raise
            words = "a process of the worker was ended while its device memory was taken: the container's memory limit?"
            raise ContainerError(AgentReason.NO_WORKER, f"{words} ({error})") from error

    return run


def restore_in_place(cuda: Cuda, pids: Collection[int], seconds: float) -> bool:
    """Undo ``checkpoint_processes``, however far it came; True if all that still run have their device memory."""
    return _settle(cuda, pids, ProcessState.CHECKPOINTED, lambda pid: cuda.restore(pid, (), seconds))


def unlock_processes(cuda: Cuda, pids: Collection[int]) -> bool:
    """Undo ``lock_processes``; True if all that still run may make CUDA calls."""
    return _settle(cuda, pids, ProcessState.LOCKED, lambda pid: cuda.unlock(pid, STATE_SECONDS))


def are_running(cuda: Cuda, pids: Collection[int]) -> bool:
    """Say whether all that still run may make CUDA calls: what is undone acts on two states, and there are more."""
    try:
        return all(cuda.state(pid, STATE_SECONDS) == ProcessState.RUNNING for pid in pids if is_alive(pid))
    except CudaError:
        return not any(map(is_alive, pids))


def _settle(cuda: Cuda, pids: Collection[int], state: ProcessState, act: Callable[[int], None]) -> bool:
    """Act on the processes that are in this state; those that have ended need nothing."""

    def settle(pid: int) -> None:
        try:
            if cuda.state(pid, STATE_SECONDS) == state:
                act(pid)
        except CudaError:
            if is_alive(pid):
                raise

    with suppress(CudaError):
        _each(pids, settle)
        return True
    return False


def _each(pids: Collection[int], act: Callable[[int], None]) -> None:
    """Act on all processes at once; raises the first error once all are done."""
    if not pids:
        return
    with ThreadPoolExecutor(len(pids), thread_name_prefix="cuda") as threads:
        calls = [threads.submit(act, pid) for pid in pids]
    for call in calls:
        call.result()
