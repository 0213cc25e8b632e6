"""Gives the tree its device memory back, and frees it if the restore fails."""

import itertools
from collections.abc import Sequence

from agent.executor.gpu.device_memory import plan_loads, start_prefetches
from agent.executor.gpu.plan import pair_devices
from agent.executor.gpu.restore import await_freed, bring_back, find_cuda_processes
from agent.executor.restore.state import Restore
from agent.executor.restore.tree import await_tree, end_tree
from contract.api.reports import Step


def has_memory_outside(restore: Restore) -> bool:
    """Say whether device memory of the worker is in files of its own."""
    gpu = restore.artifact.manifest.gpu
    return gpu is not None and bool(gpu.outside)


def start_prefetch(restore: Restore) -> None:
    """Have those files read onto the cards, while other phases work."""
    gpu, devices = restore.artifact.manifest.gpu, restore.devices
    if gpu is not None and devices:
        prefetcher = restore.environment.prefetcher
        restore.prefetches = start_prefetches(restore.artifact, gpu, devices, prefetcher, restore.resources)


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
    threads = find_cuda_processes(environment.cuda, restore.tree, gpu.processes)
    restore.cuda_pids = tuple(threads)
    pairs = pair_devices(gpu, restore.devices)
    loads = plan_loads(
        restore.tree,
        restore.init_pid,
        restore.artifact,
        restore.resources,
        restore.prefetches,
        through_pod=restore.request.through_pod,
        proc=environment.proc,
    )
    seconds = environment.allowance(gpu.bytes)
    filling = bring_back(environment.cuda, list(restore.tree), threads, pairs, loads, seconds)
    await_tree(restore)
    return filling


def free_gpus(restore: Restore) -> bool:
    """End the tree, and see that its device memory is free: a failed restore cannot be made good, only ended."""
    ended = end_tree(restore)
    return (not restore.cuda_pids or await_freed(restore.environment.gpus, restore.cuda_pids)) and ended
