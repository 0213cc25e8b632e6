"""What a restore will do, decided before anything is touched: checks in order, then the plan. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from agent.container import volumes
from agent.container.inspection import Inspection, NodeInfo
from agent.container.rootfs import Changes
from agent.errors import RefusedError
from artifact.manifest import ROOTFS_TAR, Manifest
from contract.api.states import AgentReason


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
    own: tuple[str, ...] | None = None
    """What replaces files of the new pod, while all else gives way to them; None: all replaces them."""


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
    stopped: tuple[int, ...] = ()
    """Processes inside the container that were stopped at the capture: they are not woken."""


def plan_restore(
    manifest: Manifest,
    seen: Inspection,
    node: NodeInfo,
    criu: str,
    deleted: Changes,
) -> RestorePlan:
    """Decide about a restore; pure.

    Raises:
        RefusedError: it would not work, or would give the worker more than its container has.
    """
    for check in (_fits_machine, _fits_criu, _not_wider, _mounts_present, _pids_free):
        check(manifest, seen, node, criu)
    process = manifest.process
    changes = [
        Change(v.point, v.file, sockets=tuple(v.sockets), own=None if v.own is None else tuple(v.own))
        for v in manifest.volumes
    ]
    if manifest.rootfs is not None:
        lists = (tuple(deleted.gone), tuple(deleted.emptied), tuple(deleted.sockets))
        changes.insert(0, Change("/", ROOTFS_TAR, *lists))
    inherit = {what: int(number) for number, what in process.stdio.items() if what.startswith("pipe:")}
    return RestorePlan(process.pid, inherit, tuple(changes), _too_small(manifest, seen), tuple(process.stopped))


def _fits_machine(manifest: Manifest, _: Inspection, node: NodeInfo, __: str) -> None:
    taken = manifest.taken_on
    if taken.architecture != node.architecture:
        raise RefusedError(
            AgentReason.CPU_MISMATCH, f"captured on {taken.architecture}, this node is {node.architecture}"
        )
    missing = sorted(set(taken.cpu_flags) - node.cpu_flags)
    if missing:
        raise RefusedError(
            AgentReason.CPU_MISMATCH,
            f"this node's processor lacks {', '.join(missing)}; keep the pods on nodes like {taken.kernel}'s "
            "or capture on the oldest processor of the pool",
        )


def _fits_criu(manifest: Manifest, _: Inspection, __: NodeInfo, criu: str) -> None:
    taken = manifest.taken_on.criu
    if version_numbers(taken)[:2] > version_numbers(criu)[:2]:
        raise RefusedError(
            AgentReason.CRIU_MISMATCH, f"captured with criu {taken}, this agent has {criu}; update the agent"
        )


def version_numbers(version: str) -> tuple[int, ...]:
    """Return the numbers of a version, to compare: ``580.159.04`` is 580, 159, 4."""
    return tuple(int(part) for part in version.split(".") if part.isdecimal())


def _not_wider(manifest: Manifest, seen: Inspection, _: NodeInfo, __: str) -> None:
    """Refuse an artifact that would bring rights: they come from the admitted pod alone."""
    then, now = manifest.container, seen.init
    problems = []
    if (then.uid, then.gid) != (now.uid, now.gid):
        problems.append(f"user {then.uid}:{then.gid} then, {now.uid}:{now.gid} now")
    if extra := sorted(set(then.groups) - now.groups):
        problems.append(f"groups {extra} are not the pod's")
    if extra_caps := then.bounding_set & ~now.capabilities["CapBnd"]:
        problems.append(f"capabilities {extra_caps:#x} are not the pod's")
    if now.no_new_privileges and not then.no_new_privileges:
        problems.append("allowPrivilegeEscalation was true then and is false now")
    if now.seccomp and not then.seccomp:
        problems.append("there was no seccomp profile then, there is one now")
    if problems:
        raise RefusedError(
            AgentReason.WIDER_RIGHTS, "the captured worker had rights that this pod lacks: " + "; ".join(problems)
        )


def _mounts_present(manifest: Manifest, seen: Inspection, _: NodeInfo, __: str) -> None:
    missing = sorted(set(manifest.used_mounts) - {mount.point for mount in seen.mounts})
    if missing:
        raise RefusedError(
            AgentReason.MOUNTS_MISSING, f"the worker uses files on {', '.join(missing)}, which this pod does not mount"
        )


def _pids_free(manifest: Manifest, seen: Inspection, _: NodeInfo, __: str) -> None:
    taken = sorted(set(manifest.process.ids) & seen.inner_ids)
    if taken:
        raise RefusedError(
            AgentReason.PIDS_TAKEN, f"process ids {taken[:5]} of the worker are in use in this container"
        )


def _too_small(manifest: Manifest, seen: Inspection) -> dict[str, int]:
    resize = {}
    for volume in manifest.volumes:
        mount = next((mount for mount in reversed(seen.mounts) if mount.point == volume.point), None)
        size = volumes.tmpfs_size(mount) if mount else None
        if mount is None:
            raise RefusedError(
                AgentReason.MOUNTS_MISSING, f"the worker keeps data on {volume.point}, which this pod lacks"
            )
        if volume.size and size and size < volume.size:
            resize[volume.point] = volume.size
    return resize
