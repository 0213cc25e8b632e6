"""Memory and scratch volumes of a worker whose content must travel with it: /dev/shm and emptyDirs."""

import os
import stat
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from agent.errors import RefusedError
from contract.api import keys
from contract.api.states import AgentReason
from linux import filetree
from linux.proc import Mount, mount_of

LIMIT: Final = 1 << 30
"""Bytes of one volume's content that a capture takes along."""
_EMPTY_DIR: Final = "/volumes/kubernetes.io~empty-dir/"


@dataclass(frozen=True)
class Volume:
    """A mount whose content travels."""

    point: str
    size: int | None = None
    """Bytes that a tmpfs may hold; None for others."""


def travelling(mounts: Sequence[Mount], in_use: Iterable[str], empty_dirs: Collection[str]) -> list[Volume]:
    """Return shared memory, and every emptyDir of the pod in which a process has something open or mapped."""
    used = {mount.point for path in in_use if (mount := mount_of(path, list(mounts)))}
    chosen = {}
    for mount in mounts:
        is_ours = f"{_EMPTY_DIR}{keys.CONTROL_VOLUME}/" in mount.root + "/"
        if mount.point == keys.SHARED_MEMORY_DIR or (
            is_empty_dir(mount, empty_dirs) and not is_ours and mount.point in used
        ):
            chosen[mount.point] = Volume(mount.point, tmpfs_size(mount))
    return list(chosen.values())


def is_empty_dir(mount: Mount, empty_dirs: Collection[str]) -> bool:
    """Say whether a mount is an emptyDir: the pod says so, or its place on the node does."""
    return mount.point in empty_dirs or _EMPTY_DIR in mount.root


def tmpfs_size(mount: Mount) -> int | None:
    """Return the size option of a tmpfs, bytes; None if it has none or is no tmpfs."""
    text = mount.option("size") if mount.fstype == "tmpfs" else None
    if not text:
        return None
    number, unit = (text[:-1], text[-1].lower()) if text[-1].isalpha() else (text, "")
    return int(number) << {"": 0, "k": 10, "m": 20, "g": 30}[unit]


def check_size(root: int, point: str, limit: int = LIMIT) -> list[str]:
    """Return the names to pack below a volume's root.

    Raises:
        RefusedError: if their content is more than ``limit``, naming the volume and its largest file.
    """
    files = [(name, found) for name, found in filetree.walk(root) if not stat.S_ISSOCK(found.st_mode)]
    total = sum(_content(found) for _, found in files)
    if total > limit:
        name, largest = max(files, key=lambda entry: _content(entry[1]))
        raise RefusedError(
            AgentReason.VOLUME_TOO_LARGE,
            f"volume {point} holds {total} bytes, more than {limit}; the largest file is {point}/{name} "
            f"({_content(largest)}): keep such data on a persistent volume or in the image",
        )
    return [name for name, _ in files]


def _content(found: os.stat_result) -> int:
    """Return the bytes that a file really takes: sparse files count by their blocks."""
    return min(found.st_size, found.st_blocks * 512) if stat.S_ISREG(found.st_mode) else 0
