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

from agent import artifact, graft, rootfs, store, volumes
from agent.artifact import Published, Staging
from agent.claim import Claim
from agent.criu import DumpRequest
from agent.discover import mount_of
from agent.errors import ContainerError, RefusedError
from agent.inspection import Inspection, Machine, Worker, find_worker, inspect, machine, open_in_container
from agent.orders import CaptureOrder
from agent.phases import Phases
from agent.tools import Tools
from agent.volumes import Volume

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


def plan_capture(order: CaptureOrder, seen: Inspection, worker: Worker | None, node: Machine, criu: str) -> CapturePlan:
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
        "container": {"name": order.place.container, "image": order.image, **_rights(seen)},
        "process": _process(seen, worker),
        "usedMounts": sorted(used - {"/"}),
    }
    chosen = tuple(volumes.travelling(seen.mounts, worker.in_use, order.place.empty_dirs))
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


def allowance(tools: Tools, size: int) -> float:
    """Seconds that moving ``size`` bytes may take."""
    return min(tools.longest, 60 + size / BYTES_PER_SECOND)


def capture(order: CaptureOrder, claim: Claim, init_pid: int, tools: Tools, phases: Phases) -> Published:
    """Capture a claimed container up to the published and verified artifact; the verdict is the caller's.

    Raises:
        SnapshotError: with what to do; nothing is published then.
    """
    with phases.lap("inspect"):
        seen = inspect(init_pid, tools.proc)
        worker = find_worker(init_pid, tools.proc)
        plan = plan_capture(order, seen, worker, machine(tools.proc), tools.criu.version())
        for volume in plan.volumes:
            _check_volume(init_pid, volume, tools)
        base = open_base(order.base_path, init_pid, tools, through_pod=order.through_pod)
    try:
        artifact.refuse_existing(base, order.checkpoint_id, order.version)
        claim.allow(allowance(tools, plan.allowance_bytes))
        with artifact.staging(base, order.checkpoint_id) as staged:
            with phases.lap("dump"):
                tools.criu.dump(_request(init_pid, plan, staged, tools))
            with phases.lap("files"):
                extra = _save_files(staged, plan, seen, tools)
                extra["volumes"] = [_save_volume(staged, init_pid, v, i, tools) for i, v in enumerate(plan.volumes)]
            with phases.lap("publish"):
                whole = {"createdAt": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), **plan.manifest, **extra}
                published = artifact.publish(base, staged, order.checkpoint_id, order.version, whole)
        with phases.lap("verify"):
            _verify(base, order, published)
        return published
    finally:
        os.close(base)


def _request(init_pid: int, plan: CapturePlan, staged: Staging, tools: Tools) -> DumpRequest:
    return DumpRequest(
        init_pid=init_pid,
        worker_pid=plan.worker_pid,
        images=staged.directory,
        timeout=tools.longest,
    )


def open_base(path: PurePosixPath, init_pid: int, tools: Tools, *, through_pod: bool) -> int:
    """Descriptor of the store's root, the agent's or the container's."""
    if through_pod:
        return store.open_pod_mount(str(path), init_pid, tools.proc)
    return store.open_agent_mount(str(path))


def _check_volume(init_pid: int, volume: Volume, tools: Tools) -> None:
    """Refuses beforehand what is too large; the names themselves are read once the worker has stopped."""
    root = open_in_container(init_pid, volume.point, proc=tools.proc)
    try:
        volumes.check_size(root, volume.point)
    finally:
        os.close(root)


def _save_volume(staged: Staging, init_pid: int, volume: Volume, number: int, tools: Tools) -> dict[str, Any]:
    file_name = f"volume-{number}.tar"
    root = open_in_container(init_pid, volume.point, proc=tools.proc)
    try:
        with os.fdopen(staged.file(file_name), "wb") as into:
            graft.pack(root, into, volumes.check_size(root, volume.point))
        sockets = [name for name, found in graft.walk(root) if stat.S_ISSOCK(found.st_mode)]
    finally:
        os.close(root)
    return {"point": volume.point, "file": file_name, "size": volume.size, "sockets": sockets}


def _save_files(staged: Staging, plan: CapturePlan, seen: Inspection, tools: Tools) -> dict[str, Any]:
    upper_path = rootfs.upper_directory(seen.mounts, tools.host_root)
    if upper_path is None:
        return {"rootfs": None}
    try:
        upper = os.open(upper_path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise ContainerError(
            "rootfs-unreadable", f"the container's upper layer {upper_path}: {error.strerror}"
        ) from error
    try:
        changes = rootfs.collect(upper, rootfs.skipper(tools.exclusions, plan.mount_points, plan.in_use))
        with os.fdopen(staged.file(artifact.ROOTFS_TAR), "wb") as into:
            size = graft.pack(upper, into, changes.files)
    finally:
        os.close(upper)
    with os.fdopen(staged.file(artifact.DELETED_FILES), "w") as file:
        file.write(changes.deleted_json())
    return {"rootfs": {"files": len(changes.files), "deleted": len(changes.gone), "bytes": size}}


def _verify(base: int, order: CaptureOrder, published: Published) -> None:
    """Open what was published as a restore would: that, and not our having written it, is what Ready stands for."""
    found = artifact.open_artifact(base, order.checkpoint_id, order.version, published.digest)
    try:
        artifact.verify(found)
    finally:
        found.close()
