"""Gives the tree its device memory back, and frees it if the restore fails."""

import itertools
from collections.abc import Sequence

from agent.executor.gpu.device_memory import SavedMemory, plan_loads, start_prefetches
from agent.executor.gpu.plan import pair_devices
from agent.executor.gpu.restore import await_freed, bring_back, find_cuda_processes
from agent.executor.restore.state import Restore
from agent.executor.restore.tree import await_tree, end_tree, refuse_ended
from agent.executor.restore.verification import refuse_changed_memory
from contract.api.errors import SnapshotError
from contract.api.reports import ReportPhase, Step
from linux.proc import is_ending


def has_memory_outside(restore: Restore) -> bool:
    """Say whether device memory of the worker is in files of its own."""
    gpu = restore.artifact.manifest.gpu
    return gpu is not None and bool(gpu.outside)


def is_read_ahead(restore: Restore) -> bool:
    """Say whether some of it is put on the cards before its processes are there."""
    return bool(restore.engine.prefetches)


def start_prefetch(restore: Restore) -> None:
    """Have files read onto the cards as planned, while other phases work."""
    planned, environment = restore.engine.prefetches, restore.environment
    restore.prefetches = start_prefetches(
        _saved(restore), planned, restore.devices, environment.prefetcher, environment.neighbours, restore.resources
    )


def _saved(restore: Restore) -> SavedMemory:
    return SavedMemory(restore.artifact, restore.weights, restore.request.through_pod)


def end_prefetch(restore: Restore) -> bool:
    """Give up what is read ahead, and the device memory that it takes."""
    for prefetch in itertools.chain.from_iterable(restore.prefetches.values()):
        prefetch.close()
    return True


def has_device_state(restore: Restore) -> bool:
    """Say whether the worker used GPUs."""
    return restore.artifact.manifest.gpu is not None


def restore_gpus(restore: Restore) -> Sequence[Step]:
    """Give the tree its device memory back. No thread of it runs before or after. Answers the steps within."""
    gpu, environment = restore.artifact.manifest.gpu, restore.environment
    if gpu is None:
        return ()
    # The driver restores by threads of the worker, and they run by what the host's memory says.
    refuse_changed_memory(restore)
    threads = find_cuda_processes(environment.cuda, restore.tree, gpu.processes)
    restore.cuda_pids = tuple(threads)
    pairs = pair_devices(gpu, restore.devices)
    saved, proc = _saved(restore), environment.proc
    loads = plan_loads(restore.tree, restore.init_pid, saved, restore.resources, restore.prefetches, proc=proc)
    seconds = environment.allowance(gpu.bytes)
    try:
        filling = bring_back(environment.cuda, list(restore.tree), threads, pairs, loads, seconds)
    except SnapshotError as error:
        during = f"its device memory came back: the pod's memory limit? ({error})"
        refuse_ended(restore, during, lambda pid: is_ending(pid, pid, proc))
        raise
    restore.weights.refuse_changed()
    restore.libraries = {load.library.inner_pid: load.library for load in loads.values()}
    _note_ahead(restore)
    await_tree(restore)
    return filling


def _note_ahead(restore: Restore) -> None:
    """Note what came of what was read ahead, and when that was."""
    came = [prefetch.came() for prefetch in itertools.chain.from_iterable(restore.prefetches.values())]
    restore.ahead = sum(each.bytes for each in came)
    restore.lent = sum(each.lent for each in came)
    if came:
        since, until = min(each.since for each in came), max(each.until for each in came)
        restore.beside.append(Step(ReportPhase.GPU_AHEAD, since, until - since))


def free_gpus(restore: Restore) -> bool:
    """End the tree, and see that its device memory is free: a failed restore cannot be made good, only ended."""
    ended = end_tree(restore)
    return (not restore.cuda_pids or await_freed(restore.environment.gpus, restore.cuda_pids)) and ended
