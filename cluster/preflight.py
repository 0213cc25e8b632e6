"""What the host must have, checked before anything is started, all at once."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from cluster.errors import HostError

NODE_TOOLS = {
    "apt-get": "apt",
    "dpkg-deb": "dpkg",
    "ip": "iproute2",
    "mount": "mount",
    "nsenter": "util-linux",
    "setsid": "util-linux",
    "unshare": "util-linux",
}
"""Program -> the Debian package that has it."""


def missing(tools: Mapping[str, str]) -> list[str]:
    """Return the programs of *tools* that are not on PATH or in the system's own folders."""
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
    return [name for name in tools if not shutil.which(name, path=path)]


def complaint(absent: list[str], tools: Mapping[str, str], *, root: bool) -> str | None:
    """Return the message for the user, or None if nothing is missing. Pure."""
    lines = []
    if absent:
        packages = " ".join(sorted({tools[name] for name in absent}))
        lines.append(f"missing on this machine: {', '.join(absent)}. Install: apt-get install {packages}")
    if not root:
        lines.append("a node needs root (namespaces, mounts, cgroups). Run the same command with sudo -E")
    return "\n".join(lines) or None


def check_node_host(cache: Path) -> None:
    """Raise HostError with everything that keeps a node from running here."""
    found = complaint(missing(NODE_TOOLS), NODE_TOOLS, root=os.geteuid() == 0)
    if found:
        raise HostError(found)
    cache.mkdir(parents=True, exist_ok=True)
    if file_system(cache, Path("/proc/self/mountinfo").read_text()) == "overlay":
        raise HostError(
            f"{cache} is on an overlay file system, on which containerd cannot stack its own. "
            "Set DYNAMO_SNAPSHOT_CACHE to a folder on a disk or a volume"
        )


def file_system(path: Path, mountinfo: str) -> str:
    """Return the type of the file system that holds *path*, by the longest mount point above it. Pure."""
    best, kind = -1, ""
    for line in mountinfo.splitlines():
        fields, _, rest = line.partition(" - ")
        point = Path(fields.split()[4].replace("\\040", " "))
        if path.is_relative_to(point) and len(point.parts) >= best:
            best, kind = len(point.parts), rest.split()[0]
    return kind
