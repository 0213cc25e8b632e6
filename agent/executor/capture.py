"""Captures one container: dump, what it changed in its files, publish, verify, and only then say so.

The worker's end is part of it: criu ends the tree that it has dumped, and standby ends with it.
"""

import os
import stat
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from agent.container import rootfs, volumes
from agent.container.inspection import Inspection, Machine, Worker, find_worker, inspect, machine, open_in_container
from agent.container.pod_storage import open_pod_mount
from agent.container.volumes import Volume
from agent.criu.driver import CriuDump
from agent.errors import ContainerError, RefusedError
from agent.executor.api import CaptureRequest
from agent.executor.environment import NodeEnvironment
from agent.executor.lock import ContainerLock
from agent.executor.timings import Timings
from artifact.backends import directory
from artifact.manifest import DELETED_FILES, ROOTFS_TAR
from artifact.publish import Published, Staging, publish, refuse_existing, staging
from artifact.read import open_artifact, verify
from linux import filetree
from linux.proc import mount_of

BYTES_PER_SECOND = 50_000_000
"""Slowest storage that the time allowance is made for."""


@dataclass(frozen=True)
class CapturePlan:
    """What a capture will do, decided before anything is touched."""

    worker_pid: int
    """Inside the container."""
    volumes: tuple[Volume, ...]
    mount_points: tuple[str, ...]
    in_use: frozenset[str]
    allowance_bytes: int
    """Upper bound of what will be written."""
    manifest: Mapping[str, Any]


def plan_capture(
    request: CaptureRequest, seen: Inspection, worker: Worker | None, node: Machine, criu: str
) -> CapturePlan:
    """Decide about a capture; pure.

    Raises:
        RefusedError: it would not work, with what to do.
    """
    if worker is None:
        raise RefusedError("no-worker", "the worker has ended; see the container's log")
    for number, what in seen.stdio.items():
        if what.startswith(("/dev/pts/", "/dev/console", "socket:")):
            raise RefusedError(
                "terminal", f"descriptor {number} of the container is {what}: captures need tty: false and stdin: false"
            )
    used = {mount.point for path in worker.in_use if (mount := mount_of(path, list(seen.mounts)))}
    manifest = {
        "takenOn": _taken_on(node, criu),
        "container": {"name": request.place.container, "image": request.image, **_rights(seen)},
        "process": _process(seen, worker),
        "usedMounts": sorted(used - {"/"}),
    }
    chosen = tuple(volumes.travelling(seen.mounts, worker.in_use, request.place.empty_dirs))
    points = tuple(mount.point for mount in seen.mounts)
    return CapturePlan(worker.root.inner_pid, chosen, points, worker.in_use, worker.resident, manifest)


def _taken_on(node: Machine, criu: str) -> dict[str, Any]:
    return {
        "kernel": node.kernel,
        "architecture": node.architecture,
        "cpuFlags": sorted(node.cpu_flags),
        "criu": criu,
    }


def _rights(seen: Inspection) -> dict[str, Any]:
    """Of standby, which has exactly what the container was given: a restore is refused where it would get less."""
    return {
        "uid": seen.init.uid,
        "gid": seen.init.gid,
        "groups": sorted(seen.init.groups),
        "capabilities": f"{seen.init.capabilities['CapBnd']:x}",
        "noNewPrivileges": seen.init.no_new_privileges,
        "seccomp": seen.init.seccomp,
    }


def _process(seen: Inspection, worker: Worker) -> dict[str, Any]:
    return {
        "pid": worker.root.inner_pid,
        "argv": list(worker.argv),
        "ids": sorted(worker.inner_ids),
        "stdio": {str(number): what for number, what in seen.stdio.items()},
    }


def allowance(environment: NodeEnvironment, size: int) -> float:
    """Seconds that moving ``size`` bytes may take."""
    return min(environment.longest, 60 + size / BYTES_PER_SECOND)


def capture(
    request: CaptureRequest, lock: ContainerLock, init_pid: int, environment: NodeEnvironment, timings: Timings
) -> Published:
    """Capture a claimed container up to the published and verified artifact; the verdict is the caller's.

    Raises:
        SnapshotError: with what to do; nothing is published then.
    """
    with timings.phase("inspect"):
        seen = inspect(init_pid, environment.proc)
        worker = find_worker(init_pid, environment.proc)
        plan = plan_capture(request, seen, worker, machine(environment.proc), environment.criu.version())
        for volume in plan.volumes:
            _check_volume(init_pid, volume, environment)
        base = open_base(request.base_path, init_pid, environment, through_pod=request.through_pod)
    try:
        refuse_existing(base, request.checkpoint_id, request.version)
        lock.allow(allowance(environment, plan.allowance_bytes))
        with staging(base, request.checkpoint_id) as staged:
            with timings.phase("dump"):
                environment.criu.dump(_request(init_pid, plan, staged, environment))
            with timings.phase("files"):
                extra = _save_files(staged, plan, seen, environment)
                extra["volumes"] = [
                    _save_volume(staged, init_pid, v, i, environment) for i, v in enumerate(plan.volumes)
                ]
            with timings.phase("publish"):
                whole = {"createdAt": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), **plan.manifest, **extra}
                published = publish(base, staged, request.checkpoint_id, request.version, whole)
        with timings.phase("verify"):
            _verify(base, request, published)
        return published
    finally:
        os.close(base)


def _request(init_pid: int, plan: CapturePlan, staged: Staging, environment: NodeEnvironment) -> CriuDump:
    return CriuDump(
        init_pid=init_pid,
        worker_pid=plan.worker_pid,
        images=staged.directory,
        timeout=environment.longest,
    )


def open_base(path: PurePosixPath, init_pid: int, environment: NodeEnvironment, *, through_pod: bool) -> int:
    """Descriptor of the store's root, the agent's or the container's."""
    if through_pod:
        return open_pod_mount(str(path), init_pid, environment.proc)
    return directory.open_agent_mount(str(path))


def _check_volume(init_pid: int, volume: Volume, environment: NodeEnvironment) -> None:
    """Refuses beforehand what is too large; the names themselves are read once the worker has stopped."""
    root = open_in_container(init_pid, volume.point, proc=environment.proc)
    try:
        volumes.check_size(root, volume.point)
    finally:
        os.close(root)


def _save_volume(
    staged: Staging, init_pid: int, volume: Volume, number: int, environment: NodeEnvironment
) -> dict[str, Any]:
    file_name = f"volume-{number}.tar"
    root = open_in_container(init_pid, volume.point, proc=environment.proc)
    try:
        with os.fdopen(staged.file(file_name), "wb") as into:
            filetree.pack(root, into, volumes.check_size(root, volume.point))
        sockets = [name for name, found in filetree.walk(root) if stat.S_ISSOCK(found.st_mode)]
    finally:
        os.close(root)
    return {"point": volume.point, "file": file_name, "size": volume.size, "sockets": sockets}


def _save_files(staged: Staging, plan: CapturePlan, seen: Inspection, environment: NodeEnvironment) -> dict[str, Any]:
    upper_path = rootfs.upper_directory(seen.mounts, environment.host_root)
    if upper_path is None:
        return {"rootfs": None}
    try:
        upper = os.open(upper_path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise ContainerError(
            "rootfs-unreadable", f"the container's upper layer {upper_path}: {error.strerror}"
        ) from error
    try:
        changes = rootfs.collect(upper, rootfs.skipper(environment.exclusions, plan.mount_points, plan.in_use))
        with os.fdopen(staged.file(ROOTFS_TAR), "wb") as into:
            size = filetree.pack(upper, into, changes.files)
    finally:
        os.close(upper)
    with os.fdopen(staged.file(DELETED_FILES), "w") as file:
        file.write(changes.deleted_json())
    return {"rootfs": {"files": len(changes.files), "deleted": len(changes.gone), "bytes": size}}


def _verify(base: int, request: CaptureRequest, published: Published) -> None:
    """Open what was published as a restore would: that, and not our having written it, is what Ready stands for."""
    found = open_artifact(base, request.checkpoint_id, request.version, published.digest)
    try:
        verify(found)
    finally:
        found.close()
