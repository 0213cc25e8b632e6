"""What a restore will do, decided before anything is touched: checks in order, then the plan. Pure."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from agent.container.files import volumes
from agent.container.files.rootfs import Changes
from agent.container.inspection import Inspection, Surroundings
from agent.errors import RefusedError
from agent.executor.gpu.plan import GPU_CHECKS, GpuPlace, beyond_limit
from artifact.manifest import ROOTFS_TAR, Manifest, image_digest
from artifact.parts.files import Folder
from artifact.parts.gpu import Gpu
from contract.api.states import AgentReason
from contract.nodes import node_facts


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
    top: Folder | None = None
    """What becomes of the mount's own folder; None: nothing."""


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


@dataclass(frozen=True)
class Place:
    """Where a worker is to be restored."""

    seen: Inspection
    """The container of the new pod."""
    around: Surroundings
    image: str = ""
    """Its image with a digest, by the runtime or by the pod's own words; without one it is not compared."""
    gpus: GpuPlace = field(default_factory=GpuPlace)


Check = Callable[[Manifest, Place], str | None]
"""Compares a captured worker with a place: what is in the way, and what to do; None if nothing is."""


def judge(
    manifest: Manifest, place: Place, bypass: Collection[str] = (), checks: Sequence[tuple[AgentReason, Check]] = ()
) -> dict[AgentReason, str]:
    """Return what is in the way of a restore and was bypassed; pure.

    Args:
        manifest: of the artifact.
        place: where it is to be restored.
        bypass: ids of checks whose word does not count, by the owner of the pod or of the node.
        checks: those to make; without any, all.

    Raises:
        RefusedError: by the first check that was not bypassed.
    """
    bypassed = {}
    for reason, check in checks or CHECKS:
        words = check(manifest, place)
        if words is None:
            continue
        if reason not in bypass:
            raise RefusedError(reason, words)
        bypassed[reason] = words
    return bypassed


def plan_restore(manifest: Manifest, seen: Inspection, deleted: Changes) -> RestorePlan:
    """Decide what a restore that may run will do; pure."""
    process = manifest.process
    changes = [
        Change(v.point, v.file, sockets=tuple(v.sockets), own=None if v.own is None else tuple(v.own), top=v.top)
        for v in manifest.volumes
    ]
    if manifest.rootfs is not None:
        lists = (tuple(deleted.gone), tuple(deleted.emptied), tuple(deleted.sockets))
        changes.insert(0, Change("/", ROOTFS_TAR, *lists, top=manifest.rootfs.top))
    inherit = {what: int(number) for number, what in process.stdio.items() if what.startswith("pipe:")}
    return RestorePlan(process.pid, inherit, tuple(changes), _too_small(manifest, seen), tuple(process.stopped))


def _wider_rights(manifest: Manifest, place: Place) -> str | None:
    """Refuse an artifact that would bring rights: they come from the admitted pod alone."""
    then, now = manifest.container, place.seen.init
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
    return "the captured worker had rights that this pod lacks: " + "; ".join(problems) if problems else None


def _of_node(check: node_facts.Check) -> Check:
    return lambda manifest, place: check(manifest.taken_on.facts, place.around.node)


def _other_image(manifest: Manifest, place: Place) -> str | None:
    then, now = image_digest(manifest.container.image_id), image_digest(place.image)
    if not then or not now or then == now:
        return None
    return f"captured of image {then}, this container has {now}: capture again, or use the captured image"


def _mounts_missing(manifest: Manifest, place: Place) -> str | None:
    points = {mount.point for mount in place.seen.mounts}
    if missing := sorted(set(manifest.used_mounts) - points):
        return f"the worker uses files on {', '.join(missing)}, which this pod does not mount"
    without = next((volume.point for volume in manifest.volumes if volume.point not in points), None)
    return f"the worker keeps data on {without}, which this pod lacks" if without else None


def _pids_taken(manifest: Manifest, place: Place) -> str | None:
    taken = sorted(set(manifest.process.ids) & place.seen.inner_ids)
    return f"process ids {taken[:5]} of the worker are in use in this container" if taken else None


def _memory_limit(manifest: Manifest, place: Place) -> str | None:
    around = place.around
    return beyond_limit(manifest.memory, around.headroom, "the worker's memory is", around.memory_limit)


def _huge_pages(manifest: Manifest, place: Place) -> str | None:
    needed, free = manifest.process.huge, place.around.huge_free
    if not needed or free is None or needed <= free:
        return None
    return f"the worker has {needed >> 20} MiB of huge pages, and the node has {free >> 20} MiB of them left"


def _cpu_limit(manifest: Manifest, place: Place) -> str | None:
    then, now = manifest.container.cpu_limit, place.around.cpu_limit
    if then is None or now is None or now >= then:
        return None
    return f"captured with a limit of {then:g} CPUs, this container has {now:g}: raise resources.limits.cpu"


def _of_gpus(check: Callable[[Gpu, GpuPlace], str | None]) -> Check:
    return lambda manifest, place: check(manifest.gpu, place.gpus) if manifest.gpu is not None else None


CHECKS: Final[tuple[tuple[AgentReason, Check], ...]] = (
    (AgentReason.WIDER_RIGHTS, _wider_rights),
    *((reason, _of_node(check)) for reason, check in node_facts.NODE_CHECKS),
    (AgentReason.IMAGE_MISMATCH, _other_image),
    (AgentReason.MOUNTS_MISSING, _mounts_missing),
    (AgentReason.PIDS_TAKEN, _pids_taken),
    (AgentReason.MEMORY_LIMIT, _memory_limit),
    (AgentReason.CPU_LIMIT, _cpu_limit),
    (AgentReason.HUGE_PAGES, _huge_pages),
    *((reason, _of_gpus(check)) for reason, check in GPU_CHECKS),
)
"""What a restore needs of its container and node, before anything is touched; ``contract.nodes.compatibility`` says
what of it can be bypassed."""

DEVICE_CHECKS: Final = tuple((reason, _of_gpus(check)) for reason, check in GPU_CHECKS)
"""What the devices of a worker that was parked must be when it is woken; all else was compared before."""
PARK_CHECKS: Final = tuple(row for row in CHECKS if row[0] != AgentReason.GPU_MEMORY)
"""What a worker that is parked needs: another may have the memory of its device meanwhile."""


def _too_small(manifest: Manifest, seen: Inspection) -> dict[str, int]:
    resize = {}
    for volume in manifest.volumes:
        mount = next((mount for mount in reversed(seen.mounts) if mount.point == volume.point), None)
        size = volumes.tmpfs_size(mount) if mount else None
        if volume.size and size and size < volume.size:
            resize[volume.point] = volume.size
    return resize
