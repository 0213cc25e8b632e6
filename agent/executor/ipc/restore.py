"""Makes the System V objects and message queues of a worker before criu; removes them if the restore fails."""

import os
from contextlib import ExitStack

from agent.container.ipc import attach, objects, queues
from agent.criu.images.given_files import file_name
from agent.criu.page_server import MOST_THREADS
from agent.criu.runner import run_in_namespaces
from agent.criu.shared_fill import Job
from agent.criu.shared_memory import content_of
from agent.errors import ContainerError, CriuError, RefusedError
from agent.executor.ipc.made import Made, is_noted
from agent.executor.restore.state import Restore
from agent.preflight.ipc import is_of_node
from contract.api.states import AgentReason
from linux.cgroup import cgroup_files


def has_objects(restore: Restore) -> bool:
    """Say whether there is anything to make, or to take away of an earlier restore in this pod."""
    is_wanted = restore.ipc is not None or restore.queues is not None
    return is_wanted or is_noted(restore.environment.kubelet_pods, restore.place)


def make_objects(restore: Restore) -> None:
    """Make all objects; those of an earlier restore, whose worker has ended, give way."""
    environment, init_pid = restore.environment, restore.init_pid
    made = Made(environment.kubelet_pods, restore.place)
    with ExitStack() as during:
        during.callback(made.close)
        _remove(made, restore)
        if (restore.ipc or restore.queues) and is_of_node(init_pid, environment.proc):
            raise RefusedError(AgentReason.SYSV_IPC_TAKEN, "the pod's IPC namespace is the node's")
        if restore.queues is not None:
            opened = queues.make(restore.queues, init_pid, environment.proc, made.add_queue, restore.resources)
            restore.given = {file_name(number): file for number, file in opened.items()}
        if (wanted := restore.ipc) is None:
            return
        objects.refuse_taken(wanted, init_pid, environment.proc)
        segments = objects.make(wanted, init_pid, environment.proc, made.add)
        for file in segments.values():
            during.callback(os.close, file)
        _fill(restore, segments, during)


def _fill(restore: Restore, opened: dict[int, int], during: ExitStack) -> None:
    """Give segments their content, which is to count for the pod."""
    environment = restore.environment
    try:
        jobs = [job for number, file in opened.items() if (job := _job(restore.images, number, file, during))[2]]
    except (OSError, ValueError) as error:
        words = f"criu's images of System V memory: {error}"
        raise CriuError(AgentReason.RESTORE_FAILED, words) from error
    if not jobs:
        return
    cgroups = cgroup_files(restore.seen.cgroups, environment.cgroup_root)
    shared = (jobs, min(MOST_THREADS, os.cpu_count() or 1))
    timeout = environment.allowance(restore.artifact.size)
    result = run_in_namespaces(pid=restore.init_pid, cgroups=cgroups, shared=shared, timeout=timeout)
    if result.code != 0:
        words = result.error or f"the process that fills it ended with code {result.code}: the pod's memory limit?"
        raise ContainerError(AgentReason.RESTORE_FAILED, f"System V memory cannot be filled: {words}")


def _job(images: int, number: int, file: int, during: ExitStack) -> Job:
    pages, runs = content_of(images, number)
    source = os.open(f"pages-{pages}.img", os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=images)
    during.callback(os.close, source)
    return source, file, runs


def attach_objects(restore: Restore) -> None:
    """Have the restored processes attach the segments that they had."""
    if restore.ipc is not None and restore.ipc.segments:
        attach.attach(restore.ipc, restore.tree, restore.init_pid, restore.environment.proc)


def remove_objects(restore: Restore) -> bool:
    """Remove what was made; False if it may be there."""
    environment = restore.environment
    if not is_noted(environment.kubelet_pods, restore.place):
        return True
    if not restore.lock.is_awaited():  # what has started cold since may use what it found
        return False
    made = Made(environment.kubelet_pods, restore.place)
    try:
        _remove(made, restore)
    finally:
        made.close()
    return True


def _remove(made: Made, restore: Restore) -> None:
    """Take away what is noted."""
    objects.remove(made.names(), restore.init_pid, restore.environment.proc)
    queues.remove(made.queues(), restore.init_pid, restore.environment.proc)
    made.forget()
