"""Takes a worker's device memory out of its way, and puts it back if the capture fails."""

import os

from agent.executor.capture.state import Capture
from agent.executor.gpu.capture import (
    checkpoint_processes,
    describe_saved,
    lock_processes,
    restore_in_place,
    unlock_processes,
)
from agent.executor.gpu.find_weights import Finder, refer
from agent.gpu.preload import COPIERS
from artifact.manifest import DEVICE_MEMORY


def uses_gpus(capture: Capture) -> bool:
    """Say whether a process of the worker uses CUDA."""
    return bool(capture.plan.cuda_pids)


def lock_gpus(capture: Capture) -> None:
    """Keep the worker from calls of the driver."""
    capture.cuda_pids = capture.plan.cuda_pids
    if capture.device_memory is not None:
        capture.device_memory.keep_out()
    lock_processes(capture.environment.cuda, capture.cuda_pids)


def unlock_gpus(capture: Capture) -> bool:
    """Let the worker call the driver again."""
    unlocked = unlock_processes(capture.environment.cuda, capture.cuda_pids)
    if capture.device_memory is not None:
        capture.device_memory.let_in()
    return unlocked


def has_memory_outside(capture: Capture) -> bool:
    """Say whether device memory stays outside of the image."""
    return capture.device_memory is not None


def save_device_memory(capture: Capture) -> None:
    """Have device memory written to files of the artifact: the driver's own checkpoint then has little to move."""
    if (memory := capture.device_memory) is None:
        return
    names = {
        pid: [f"{DEVICE_MEMORY}{held.library.inner_pid}-{number}.img" for number in range(COPIERS)]
        for pid, held in memory.held.items()
    }
    capture.memory_files = {pid: [_new_file(capture, name) for name in of] for pid, of in names.items()}
    discards = not capture.goes_on
    memory.take_out(capture.memory_files, _gpu_seconds(capture), capture.before_release, discards=discards)
    capture.outside = describe_saved(memory, names, capture.use.devices if capture.use else ())


def _new_file(capture: Capture, name: str) -> int:
    descriptor = capture.staged.file(name)
    capture.resources.callback(os.close, descriptor)
    return descriptor


def put_device_memory_back(capture: Capture) -> bool:
    """Undo ``save_device_memory``."""
    if capture.device_memory is None:
        return True
    return capture.device_memory.put_back(capture.memory_files, _gpu_seconds(capture))


def checkpoint_gpus(capture: Capture) -> None:
    """Have the driver move what is left of device state into the processes."""
    checkpoint_processes(capture.environment.cuda, capture.cuda_pids, _gpu_seconds(capture))


def restore_gpus(capture: Capture) -> bool:
    """Undo ``checkpoint_gpus``, in place."""
    return restore_in_place(capture.environment.cuda, capture.cuda_pids, _gpu_seconds(capture))


def _gpu_seconds(capture: Capture) -> float:
    return capture.environment.allowance(capture.plan.gpu.bytes if capture.plan.gpu else 0)


def may_be_in_weights(capture: Capture) -> bool:
    """Say whether device memory may be left to files of a model: every library must find it there again."""
    held = capture.device_memory.held.values() if capture.device_memory is not None else ()
    said, environment = capture.request.refers_to_weights, capture.environment
    wanted = environment.refers_to_weights if said is None else said
    return wanted and environment.weight_matcher is not None and any(each.takes_ranges for each in held)


def refer_to_weights(capture: Capture) -> None:
    """Take device memory out of the artifact that is in files of a model on the pod's volumes."""
    memory, environment = capture.device_memory, capture.environment
    if memory is None or environment.weight_matcher is None:
        return
    finder = Finder(
        environment.weight_matcher,
        capture.init_pid,
        capture.seen.init,
        capture.seen.mounts,
        capture.request.place.empty_dirs,
        environment.verified,
        environment.proc,
    )
    files = {pid: files for pid, files in capture.memory_files.items() if memory.held[pid].takes_ranges}
    found = finder.find(files)
    capture.outside = {**capture.outside, **refer(found, files, capture.outside, capture.staged)}
    capture.weights = found.weights
