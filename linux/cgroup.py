"""Control groups, v1 and v2: which files a process of a container is listed in, and what they leave it."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Final

UNLIMITED: Final = 1 << 60
"""Version 1 writes a number near 2**63 if there is no limit."""


def cgroup_files(cgroups: str, root: Path) -> list[str]:
    """Return the ``cgroup.procs`` files of a process's cgroups: of each v1 controller, and of the v2 leaf if any."""
    files = []
    for line in cgroups.splitlines():
        _, controllers, path = line.split(":", 2)
        if path == "/" and not controllers:
            continue  # an unused v2 tree beside v1
        # A private cgroup namespace shows paths relative to itself; from ours they begin above its root.
        clean = PurePosixPath("/", *(part for part in path.split("/") if part != "..")).relative_to("/")
        files += [str(base / clean / "cgroup.procs") for base in _cgroup_mount(root, controllers)]
    return files


def pids_below(group: Path) -> Iterator[int]:
    """Yield the processes of a control group and of the groups below it; none if it is not there."""
    for folder, _, _ in os.walk(group):
        with suppress(OSError):  # removed meanwhile; or of threads alone, and listed further up
            # A process that this pid namespace does not see is listed as 0.
            yield from (pid for line in Path(folder, "cgroup.procs").read_text().split() if (pid := int(line)))


def _cgroup_mount(root: Path, controllers: str) -> list[Path]:
    if not controllers:
        return [root / "unified" if (root / "unified").is_dir() else root]
    named = root / controllers.removeprefix("name=")
    return [named] if named.is_dir() else [root / c for c in controllers.split(",") if (root / c).is_dir()][:1]


def memory_headroom(cgroups: str, root: Path) -> int | None:
    """Return the bytes that a process may still use under the limits of its cgroups; None if there is none.

    Page cache that the kernel can drop counts as free.
    """
    spaces = [_space(group) for group in _groups(cgroups, root, "memory.stat")]
    return max(0, min(found)) if (found := [space for space in spaces if space is not None]) else None


def memory_limit(cgroups: str, root: Path) -> int | None:
    """Return the bytes that the own cgroup of a process may use, which is its container's; None without a limit."""
    return next((_limit(group) for group in _groups(cgroups, root, "memory.stat")), None)


def own_memory_limit(mount: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> int | None:
    """Return the memory limit of this process's container, or of its pod, in bytes; None if there is none.

    Args:
        mount: where groups are mounted: all of the node's, as privileged containers have them with version 2, or the
            container's own.
        own: the kernel's list of the groups that this process is in.
    """
    container_and_pod = _groups(own.read_text(), mount, "memory.stat")[:2] or [mount, mount / "memory"]
    return min((limit for group in container_and_pod if (limit := _limit(group)) is not None), default=None)


def cpu_limit(cgroups: str, root: Path) -> float | None:
    """Return how many CPUs the cgroups of a process allow it; None if there is no limit."""
    groups = _groups(cgroups, root, "cpu.max") or _groups(cgroups, root, "cpu.cfs_quota_us")
    return min((found for group in groups if (found := _cpus(group)) is not None), default=None)


def _groups(cgroups: str, root: Path, marker: str) -> list[Path]:
    """Return the directories of the groups of the controller that has that file, the process's own first."""
    for file in cgroup_files(cgroups, root):
        leaf = Path(file).parent
        if (leaf / marker).exists():
            return [group for group in (leaf, *leaf.parents) if group.is_relative_to(root) and group != root]
    return []


def _cpus(group: Path) -> float | None:
    """Return one group's own limit: quota by period, in microseconds."""
    with suppress(OSError, ValueError):
        if (group / "cpu.max").exists():
            quota, period = (group / "cpu.max").read_text().split()
        else:
            quota, period = ((group / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        if quota.strip() != "max" and int(quota) > 0:
            return int(quota) / int(period)
    return None


def _space(group: Path) -> int | None:
    """Return what is left below one group's own limit."""
    if (most := _limit(group)) is None:
        return None
    for usage in ("memory.current", "memory.usage_in_bytes"):
        with suppress(OSError, ValueError):
            return most - int((group / usage).read_text()) + _droppable(group)
    return None


def _limit(group: Path) -> int | None:
    for name in ("memory.max", "memory.limit_in_bytes"):
        with suppress(OSError, ValueError):
            most = int((group / name).read_text())
            return most if most < UNLIMITED else None
    return None


def _droppable(group: Path) -> int:
    fields = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
    prefix = "total_" if "total_inactive_file" in fields else ""
    return sum(int(fields.get(f"{prefix}{name}", 0)) for name in ("inactive_file", "active_file"))
