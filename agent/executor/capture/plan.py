"""What a capture will do, decided before anything is touched."""

from collections.abc import Iterator
from dataclasses import dataclass

from agent.container.files import volumes
from agent.container.files.volumes import Volume
from agent.container.inspection import Inspection, Surroundings, Worker
from agent.errors import RefusedError
from agent.executor.api import CaptureRequest
from agent.executor.gpu.plan import GpuUse, describe, is_of_driver, refuse_small_limit
from artifact.parts.gpu import Gpu
from artifact.parts.origin import Container, Machine
from artifact.parts.process import Process
from contract.api.states import AgentReason
from contract.nodes.node_facts import NodeFacts
from linux.proc import mount_of


@dataclass(frozen=True)
class CapturePlan:
    """The decision about one capture."""

    worker_pid: int
    """Inside the container."""
    volumes: tuple[Volume, ...]
    """Whose content travels."""
    mount_points: tuple[str, ...]
    in_use: frozenset[str]
    allowance_bytes: int
    """Upper bound of what will be written."""
    taken_on: Machine
    container: Container
    process: Process
    used_mounts: tuple[str, ...]
    pids: tuple[int, ...] = ()
    """Host pids of the tree."""
    cuda_pids: tuple[int, ...] = ()
    """Host pids of the CUDA processes."""
    gpu: Gpu | None = None


def plan_capture(
    request: CaptureRequest,
    seen: Inspection,
    worker: Worker | None,
    around: Surroundings,
    use: GpuUse | None = None,
) -> CapturePlan:
    """Decide about a capture; pure.

    Args:
        request: what to capture.
        seen: the container.
        worker: its tree of processes.
        around: what its node and its limits give it.
        use: what the worker's CUDA processes hold; None if it has none.

    Raises:
        RefusedError: it would not work, with what to do.
    """
    if worker is None:
        raise RefusedError(AgentReason.NO_WORKER, "the worker has ended; see the container's log")
    for words in terminals(seen):
        raise RefusedError(AgentReason.TERMINAL, words)
    if use is not None:
        moved = "the worker's device memory, which a capture moves into its memory, is"
        refuse_small_limit(use.moved, around.headroom, moved, around.memory_limit)
    used = _used_mounts(seen, worker, use)
    return CapturePlan(
        worker_pid=worker.root.inner_pid,
        volumes=tuple(volumes.travelling(seen.mounts, request.place.empty_dirs)),
        mount_points=tuple(mount.point for mount in seen.mounts),
        in_use=worker.in_use,
        allowance_bytes=worker.resident + (use.bytes if use else 0),
        taken_on=_taken_on(around.node),
        container=_container(request, seen, around.cpu_limit),
        process=_process(seen, worker),
        used_mounts=tuple(sorted(used - {"/"})),
        pids=worker.pids,
        cuda_pids=tuple(use.processes) if use else (),
        gpu=describe(use, worker.in_use) if use else None,
    )


def _used_mounts(seen: Inspection, worker: Worker, use: GpuUse | None) -> set[str]:
    """Return the mounts that a restore must find; not the driver's, which it compares by version."""
    mounted = list(seen.mounts)
    used = {mount.point for path in worker.in_use if (mount := mount_of(path, mounted))}
    return {point for point in used if use is None or not is_of_driver(point, use.driver.version)}


def terminals(seen: Inspection) -> Iterator[str]:
    """Yield what of the container's own descriptors is a terminal."""
    for number, what in seen.stdio.items():
        if what.startswith(("/dev/pts/", "/dev/console", "socket:")):
            yield f"descriptor {number} of the container is {what}: captures need tty: false and stdin: false"


def _taken_on(node: NodeFacts) -> Machine:
    return Machine(
        kernel=node.kernel,
        architecture=node.architecture,
        cpu_flags=sorted(node.cpu_flags),
        criu=node.criu,
        cpu_model=node.cpu_model,
    )


def _container(request: CaptureRequest, seen: Inspection, cpu_limit: float | None) -> Container:
    """Record the rights of standby, which are the container's: a restore into one with less is refused."""
    return Container(
        name=request.place.container,
        image=request.image,
        image_id=request.image_id,
        cpu_limit=cpu_limit,
        uid=seen.init.uid,
        gid=seen.init.gid,
        groups=sorted(seen.init.groups),
        capabilities=f"{seen.init.capabilities['CapBnd']:x}",
        no_new_privileges=seen.init.no_new_privileges,
        seccomp=seen.init.seccomp,
    )


def _process(seen: Inspection, worker: Worker) -> Process:
    return Process(
        pid=worker.root.inner_pid,
        argv=list(worker.argv),
        ids=sorted(worker.inner_ids),
        stdio={str(number): what for number, what in seen.stdio.items()},
        shared=worker.shared,
        huge=worker.huge,
    )
