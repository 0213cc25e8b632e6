"""Restores an artifact into one claimed container: verify, compare, put files back, criu, look whether it is there.

Whatever fails, the container is brought back to what its image says, or it is said that this was not possible:
standby then starts the worker cold, or has kubelet start the container anew.
"""

import json
import os
import signal
import time
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from agent.container import rootfs, volumes
from agent.container.inspection import Inspection, Machine, inspect, machine, open_in_container
from agent.container.rootfs import Changes
from agent.criu.driver import CriuRestore
from agent.criu.runner import NamespaceRun, run_in_namespaces
from agent.errors import ContainerError, RefusedError
from agent.executor.api import ContainerRef
from agent.executor.api import RestoreRequest as RestoreOrder
from agent.executor.capture import allowance, open_base
from agent.executor.environment import NodeEnvironment
from agent.executor.lock import ContainerLock
from agent.executor.timings import Timings
from agent.executor.undo_journal import Journal
from artifact.errors import ArtifactError
from artifact.manifest import DELETED_FILES, MANIFEST, ROOTFS_TAR
from artifact.read import Artifact, open_artifact, verify
from contract.api import control_files
from linux import filetree
from linux.cgroup import cgroup_files
from linux.filetree import FileTreeError
from linux.proc import descendants, namespace_mates

STOP_PATIENCE: Final = 3.0
"""Seconds: criu sends the stop and leaves; the kernel needs a moment to carry it out."""
GRAFT_SECONDS: Final = 600.0


@dataclass(frozen=True)
class Change:
    """Files to put below one mount of the container."""

    root: str
    tar: str
    """Name of the file in the artifact."""
    gone: tuple[str, ...] = ()
    emptied: tuple[str, ...] = ()
    sockets: tuple[str, ...] = ()
    """Which criu makes itself."""


@dataclass(frozen=True)
class RestorePlan:
    """What a restore will do, decided before anything is touched."""

    worker_pid: int
    """Inside the container."""
    inherit: Mapping[str, int]
    """Resource of the dump -> standby's descriptor that takes its place."""
    changes: tuple[Change, ...]
    resize: Mapping[str, int] = field(default_factory=dict)
    """Mount point of a tmpfs -> bytes that it must be able to hold."""


def plan_restore(
    manifest: Mapping[str, Any],
    seen: Inspection,
    node: Machine,
    criu: str,
    deleted: Changes,
) -> RestorePlan:
    """Decide about a restore; pure.

    Raises:
        RefusedError: it would not work, or would give the worker more than its container has.
    """
    for check in (_fits_machine, _fits_criu, _not_wider, _mounts_present, _pids_free):
        check(manifest, seen, node, criu)
    process = manifest["process"]
    changes = [Change(v["point"], v["file"], sockets=tuple(v["sockets"])) for v in manifest.get("volumes", ())]
    if manifest.get("rootfs"):
        lists = (tuple(deleted.gone), tuple(deleted.emptied), tuple(deleted.sockets))
        changes.insert(0, Change("/", ROOTFS_TAR, *lists))
    inherit = {what: int(number) for number, what in process["stdio"].items() if what.startswith("pipe:")}
    return RestorePlan(int(process["pid"]), inherit, tuple(changes), _too_small(manifest, seen))


def _fits_machine(manifest: Mapping[str, Any], _: Inspection, node: Machine, __: str) -> None:
    taken = manifest["takenOn"]
    if taken["architecture"] != node.architecture:
        raise RefusedError("cpu-mismatch", f"captured on {taken['architecture']}, this node is {node.architecture}")
    missing = sorted(set(taken["cpuFlags"]) - node.cpu_flags)
    if missing:
        raise RefusedError(
            "cpu-mismatch",
            f"this node's processor lacks {', '.join(missing)}; keep the pods on nodes like {taken['kernel']}'s "
            "or capture on the oldest processor of the pool",
        )


def _fits_criu(manifest: Mapping[str, Any], _: Inspection, __: Machine, criu: str) -> None:
    taken = str(manifest["takenOn"]["criu"])
    if _numbers(taken)[:2] > _numbers(criu)[:2]:
        raise RefusedError("criu-mismatch", f"captured with criu {taken}, this agent has {criu}; update the agent")


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdecimal())


def _not_wider(manifest: Mapping[str, Any], seen: Inspection, _: Machine, __: str) -> None:
    """Rights come from the admitted pod alone; an artifact must not bring any."""
    then, now = manifest["container"], seen.init
    problems = []
    if (then["uid"], then["gid"]) != (now.uid, now.gid):
        problems.append(f"user {then['uid']}:{then['gid']} then, {now.uid}:{now.gid} now")
    if extra := sorted(set(then["groups"]) - now.groups):
        problems.append(f"groups {extra} are not the pod's")
    if extra_caps := int(then["capabilities"], 16) & ~now.capabilities["CapBnd"]:
        problems.append(f"capabilities {extra_caps:#x} are not the pod's")
    if now.no_new_privileges and not then["noNewPrivileges"]:
        problems.append("allowPrivilegeEscalation was true then and is false now")
    if now.seccomp and not then["seccomp"]:
        problems.append("there was no seccomp profile then, there is one now")
    if problems:
        raise RefusedError("wider-rights", "the captured worker had rights that this pod lacks: " + "; ".join(problems))


def _mounts_present(manifest: Mapping[str, Any], seen: Inspection, _: Machine, __: str) -> None:
    missing = sorted(set(manifest["usedMounts"]) - {mount.point for mount in seen.mounts})
    if missing:
        raise RefusedError(
            "mounts-missing", f"the worker uses files on {', '.join(missing)}, which this pod does not mount"
        )


def _pids_free(manifest: Mapping[str, Any], seen: Inspection, _: Machine, __: str) -> None:
    taken = sorted(set(manifest["process"]["ids"]) & seen.inner_ids)
    if taken:
        raise RefusedError("pids-taken", f"process ids {taken[:5]} of the worker are in use in this container")


def _too_small(manifest: Mapping[str, Any], seen: Inspection) -> dict[str, int]:
    resize = {}
    for volume in manifest.get("volumes", ()):
        mount = next((mount for mount in reversed(seen.mounts) if mount.point == volume["point"]), None)
        size = volumes.tmpfs_size(mount) if mount else None
        if mount is None:
            raise RefusedError("mounts-missing", f"the worker keeps data on {volume['point']}, which this pod lacks")
        if volume["size"] and size and size < volume["size"]:
            resize[volume["point"]] = int(volume["size"])
    return resize


def restore(
    request: RestoreOrder, lock: ContainerLock, init_pid: int, environment: NodeEnvironment, timings: Timings
) -> tuple[int, int]:
    """Restore into a claimed container; returns the worker's pid inside it, and the artifact's bytes.

    The tree is left stopped: standby wakes it when it has the verdict, which is the caller's.

    Raises:
        SnapshotError: what went wrong; ``undo`` says whether the container is as it was.
    """
    with ExitStack() as stack:
        with timings.phase("open"):
            base = open_base(request.base_path, init_pid, environment, through_pod=request.through_pod)
            stack.callback(os.close, base)
            found = open_artifact(base, request.checkpoint_id, request.version, request.manifest_digest)
            stack.callback(found.close)
        lock.allow(allowance(environment, found.size))
        with timings.phase("verify"):
            verify(found)
        with timings.phase("inspect"):
            seen = inspect(init_pid, environment.proc)
            plan = _plan(found, seen, environment)
        with timings.phase("files"):
            inside = _put_back(found, plan, seen, lock, request.place, environment, stack)
        with timings.split("enter") as steps:
            steps.update(environment.criu.restore(_request(found, plan, seen, inside, environment, stack)))
        with timings.phase("look"):
            await_stopped(init_pid, plan.worker_pid, environment.proc)
        return plan.worker_pid, found.size


def _plan(found: Artifact, seen: Inspection, environment: NodeEnvironment) -> RestorePlan:
    deleted = Changes()
    if found.manifest.get("rootfs"):
        with os.fdopen(found.open(DELETED_FILES), "rb") as file:
            deleted = rootfs.parse_deleted(file.read())
    try:
        return plan_restore(found.manifest, seen, machine(environment.proc), environment.criu.version(), deleted)
    except (KeyError, TypeError, ValueError) as error:
        raise ArtifactError("manifest-unreadable", f"{MANIFEST} lacks {error}") from error


def _standby_fd(init_pid: int, number: int, stack: ExitStack, environment: NodeEnvironment) -> int:
    """Standby's own standard stream, which goes to the log of this container."""
    flags = os.O_RDONLY if number == 0 else os.O_WRONLY
    fd = os.open(environment.proc / str(init_pid) / "fd" / str(number), flags | os.O_CLOEXEC)
    stack.callback(os.close, fd)
    return fd


def _request(
    found: Artifact,
    plan: RestorePlan,
    seen: Inspection,
    inside: list[dict[str, Any]],
    environment: NodeEnvironment,
    stack: ExitStack,
) -> CriuRestore:
    """Everything opened that the restore needs, until ``stack`` closes it."""
    return CriuRestore(
        init_pid=seen.init.pid,
        images=found.directory,
        cgroup_files=cgroup_files(seen.cgroups, environment.cgroup_root),
        inherit={what: _standby_fd(seen.init.pid, number, stack, environment) for what, number in plan.inherit.items()},
        grafts=inside,
        timeout=allowance(environment, found.size),
    )


def _put_back(
    found: Artifact,
    plan: RestorePlan,
    seen: Inspection,
    lock: ContainerLock,
    place: ContainerRef,
    environment: NodeEnvironment,
    stack: ExitStack,
) -> list[dict[str, Any]]:
    """Put files back, journaled; answers what is to be done from inside the container.

    That is what touches memory file systems: their pages count for whoever writes them, which must be the pod.
    Where there is nothing to put back, nothing is touched.
    """
    inside: list[dict[str, Any]] = [{"what": "files", "root": p, "size": s} for p, s in plan.resize.items()]
    changes = [c for c in plan.changes if c.gone or c.emptied or c.sockets or _has_entries(found, c)]
    if not changes:
        return inside
    lock.control.write(control_files.DIRTY, "")
    journal = stack.enter_context(Journal.create(environment.kubelet_pods, place.pod_uid, place.container))
    memory = {mount.point for mount in seen.mounts if mount.fstype == "tmpfs"}
    for number, change in enumerate(changes):
        tar = found.open(change.tar)
        stack.callback(os.close, tar)
        names = {"root": change.root, "gone": change.gone, "emptied": change.emptied, "made": change.sockets}
        step = {"what": "files", "tar": tar, **names, **journal.step(number)}
        if change.root in memory:
            inside.append(step)
        else:
            _graft_from_outside(seen.init.pid, step, environment)
    return inside


def _graft_from_outside(init_pid: int, step: Mapping[str, Any], environment: NodeEnvironment) -> None:
    try:
        root = open_in_container(init_pid, step["root"], proc=environment.proc)
        try:
            filetree.change(root, step)
        finally:
            os.close(root)
    except (OSError, FileTreeError) as error:
        raise ContainerError("files-failed", f"cannot put the worker's files back: {error}") from error


def _has_entries(found: Artifact, change: Change) -> bool:
    """An empty tar is two blocks of zeros, padded: 10 KiB, as nothing else of ours is."""
    fd = found.open(change.tar)
    try:
        return any(os.pread(fd, 512, 0))
    finally:
        os.close(fd)


def await_stopped(init_pid: int, worker_pid: int, proc: Path) -> None:
    """Wait until the restored root is standby's child and stopped, and all of its tree with it.

    Raises:
        ContainerError: it is not.
    """
    end = time.monotonic() + STOP_PATIENCE
    while True:
        mates = namespace_mates(init_pid, proc)
        root = next((m for m in mates.values() if m.inner_pid == worker_pid and m.parent == init_pid), None)
        if root is not None:
            tree = [root.pid, *descendants(root.pid, mates)]
            if all(mates[pid].state == "T" for pid in tree):
                return
        if time.monotonic() > end:
            raise ContainerError("tree-missing", f"criu says it is done, but process {worker_pid} is not there stopped")
        time.sleep(0.002)


def context(request: RestoreOrder) -> str:
    """Content of ``restore-context.json``: where the worker goes on."""
    place = request.place
    return json.dumps(
        {
            "checkpointId": request.checkpoint_id,
            "namespace": place.namespace,
            "podName": place.pod,
            "podUID": place.pod_uid,
            "containerName": place.container,
        }
    )


def undo(place: ContainerRef, lock: ContainerLock, init_pid: int, environment: NodeEnvironment) -> bool:
    """End what a restore left running and take its files back; True where the container is as it was."""
    gone = end_leftovers(init_pid, environment.proc)
    journal = Journal.find(environment.kubelet_pods, place.pod_uid, place.container)
    if journal is None:
        return gone and not lock.control.has(control_files.DIRTY)
    with journal, NamespaceRun(environment.work) as run:
        with suppress(OSError, ValueError):
            cgroups = cgroup_files((environment.proc / str(init_pid) / "cgroup").read_text(), environment.cgroup_root)
            steps = journal.undo_steps()
            result = run_in_namespaces(run, pid=init_pid, cgroups=cgroups, grafts=steps, timeout=GRAFT_SECONDS)
            if result.code == 0 and gone:
                journal.remove()
                lock.control.remove(control_files.DIRTY)
                return True
        return False


def end_leftovers(init_pid: int, proc: Path, patience: float = STOP_PATIENCE) -> bool:
    """Kill every process below standby; True once none is left."""
    end = time.monotonic() + patience
    with suppress(OSError):
        while left := _below(init_pid, proc):
            for pid in left:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            if time.monotonic() > end:
                return False
            time.sleep(0.005)
    return True


def _below(init_pid: int, proc: Path) -> list[int]:
    return descendants(init_pid, namespace_mates(init_pid, proc))
