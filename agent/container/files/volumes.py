"""Memory and scratch volumes of a worker whose content must travel with it: /dev/shm and emptyDirs."""

import os
import stat
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from agent.errors import RefusedError
from contract.api import keys
from contract.api.states import AgentReason
from linux import filetree
from linux.filetree import content_bytes
from linux.proc import Mount

_EMPTY_DIR: Final = "/volumes/kubernetes.io~empty-dir/"
_OURS: Final = (keys.CONTROL_VOLUME, keys.TOOLS_VOLUME)


@dataclass(frozen=True)
class Volume:
    """A mount whose content travels."""

    point: str
    size: int | None = None
    """Bytes that a tmpfs may hold; None for others."""


def travelling(mounts: Sequence[Mount], empty_dirs: Collection[str]) -> list[Volume]:
    """Return shared memory, and every emptyDir that the worker could write to: of what it wrote, most is closed again.

    What is mounted read-only was written by another container of the pod, and the new pod's have written their own.
    """
    chosen = {}
    for mount in mounts:
        is_shared_memory = mount.point == keys.SHARED_MEMORY_DIR
        if is_shared_memory or (is_scratch(mount, empty_dirs) and not mount.is_read_only):
            chosen[mount.point] = Volume(mount.point, tmpfs_size(mount))
    return list(chosen.values())


def is_scratch(mount: Mount, empty_dirs: Collection[str]) -> bool:
    """Say whether a mount is an emptyDir of the worker's, none that we have added to its pod."""
    is_ours = mount.point == keys.TOOLS_DIR or any(f"{_EMPTY_DIR}{name}/" in mount.root + "/" for name in _OURS)
    return is_empty_dir(mount, empty_dirs) and not is_ours


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


@dataclass(frozen=True)
class Content:
    """What of a volume travels."""

    names: list[str]
    """To pack."""
    sockets: list[str]
    """Which criu makes itself."""
    bytes: int


def content(root: int, point: str, skip: Callable[[str], bool], limit: int) -> Content:
    """Return what travels of a volume.

    Args:
        root: descriptor of the volume's root.
        point: where it is mounted.
        skip: says of a path in the container that it is not captured, nor anything beneath.
        limit: bytes.

    Raises:
        RefusedError: it is more than ``limit``, naming the volume and its largest file.
    """
    if skip(point):
        return Content([], [], 0)
    skipped: list[str] = []
    files = []
    for name, found in filetree.walk(root):
        if any(name.startswith(prefix) for prefix in skipped):
            continue
        if skip(f"{point}/{name}"):
            skipped.append(f"{name}/")
        else:
            files.append((name, found))
    total = sum(content_bytes(found) for _, found in files)
    if total > limit:
        name, largest = max(files, key=lambda entry: content_bytes(entry[1]))
        raise RefusedError(
            AgentReason.VOLUME_TOO_LARGE,
            f"volume {point} holds {total} bytes, more than {limit} (capture.emptyDirLimit); the largest file is "
            f"{point}/{name} ({content_bytes(largest)}): keep such data on a persistent volume or in the image",
        )
    sockets = [name for name, found in files if stat.S_ISSOCK(found.st_mode)]
    return Content([name for name, found in files if not stat.S_ISSOCK(found.st_mode)], sockets, total)


def made_since(said: bytes | None, mounts: Iterable[Mount]) -> tuple[Mount, ...]:
    """Return the mounts that a container's processes made: those that were not there when it started.

    Args:
        said: what standby wrote then; None if it wrote nothing, and then it is not known.
        mounts: those of now.
    """
    if said is None:
        return ()
    then = frozenset(said.decode("ascii", "replace").split())
    return tuple(mount for mount in mounts if not mount.is_received and _as_noted(mount) not in then)


def _as_noted(mount: Mount) -> str:
    return f"{mount.number}:{os.major(mount.device)}:{os.minor(mount.device)}"
