"""A node's control groups: one subtree of its own in every hierarchy of the host, which it sees as the root."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

from cluster.errors import StartError
from cluster.processes import wait_until

INHERITED = ("cpuset.cpus", "cpuset.mems")
"""Version 1 leaves these empty in a new group, and no process may enter while they are."""

UNIFIED_CONTROLLERS = ("cpuset", "cpu", "io", "memory", "pids")


@dataclass(frozen=True)
class Hierarchy:
    """One mounted hierarchy: where, its type (cgroup or cgroup2) and, for version 1, its mount options."""

    mount_point: str
    kind: str
    options: str = ""

    @property
    def name(self) -> str:
        """Its folder's name below /sys/fs/cgroup."""
        return Path(self.mount_point).name


def hierarchies(mountinfo: str) -> list[Hierarchy]:
    """Return all that a node needs: those of version 1 if there are any, else the unified one. Pure.

    On hybrid hosts the unified hierarchy has no controllers, and a node without it is a plain version 1 node.
    """
    found: dict[str, Hierarchy] = {}
    for line in mountinfo.splitlines():
        fields, _, rest = line.partition(" - ")
        kind, _, super_options = rest.split()[:3]
        point = fields.split()[4]
        if kind == "cgroup":
            options = [word for word in super_options.split(",") if word not in {"rw", "ro", "relatime"}]
            options = [word for word in options if "=" not in word or word.startswith("name=")]
            found[point] = Hierarchy(point, kind, ",".join(_with_none(options)))
        elif kind == "cgroup2":
            found[point] = Hierarchy(point, kind)
    first = [entry for entry in found.values() if entry.kind == "cgroup"]
    return first or list(found.values())[:1]


def _with_none(options: list[str]) -> list[str]:
    named_only = all(word.startswith("name=") or word == "xattr" for word in options)
    return ["none", *options] if named_only else options


def group_name(identity: str, node: int) -> str:
    """Return the name of a node's group, the same in every hierarchy. Pure."""
    return f"dynamo-snapshot-{identity}-{node}"


def create(found: list[Hierarchy], group: str) -> list[str]:
    """Make *group* in every hierarchy; the folders, for a process to enter."""
    folders = []
    for hierarchy in found:
        root = Path(hierarchy.mount_point)
        folder = root / group
        try:
            _make(hierarchy, root, folder)
        except OSError as error:
            raise StartError(
                f"cannot make the control group {folder}: {error}; is {root} mounted read-only?"
            ) from error
        folders.append(str(folder))
    return folders


def _make(hierarchy: Hierarchy, root: Path, folder: Path) -> None:
    if hierarchy.kind == "cgroup2":
        for controller in UNIFIED_CONTROLLERS:
            # One by one: a controller that this kernel lacks must not keep the others out.
            with contextlib.suppress(OSError):
                (root / "cgroup.subtree_control").write_text(f"+{controller}")
    folder.mkdir(exist_ok=True)
    for name in INHERITED:
        own = folder / name
        if hierarchy.kind == "cgroup" and own.exists() and not own.read_text().strip():
            own.write_text((root / name).read_text())


def set_aside(folder: Path, pid: int) -> None:
    """Move the process around a node's first one into a leaf of the node's group of version 2.

    It must have been in the group itself when it made the node's namespaces: what it was in is the node's root.
    """
    leaf = folder / "outer"
    leaf.mkdir(exist_ok=True)
    (leaf / "cgroup.procs").write_text(str(pid))


def remove(found: list[Hierarchy], group: str) -> None:
    """Remove *group* everywhere, with all below it; its processes have ended."""
    for hierarchy in found:
        folder = Path(hierarchy.mount_point) / group
        if folder.exists():
            # The kernel takes a moment to let go of the last process.
            wait_until(f"removing {folder}", lambda folder=folder: _removed(folder), seconds=10)  # type: ignore[misc]


def _removed(folder: Path) -> bool:
    for path, _, _ in os.walk(folder, topdown=False):
        try:
            Path(path).rmdir()
        except FileNotFoundError:
            continue
        except OSError:
            return False
    return True
