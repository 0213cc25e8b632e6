"""Files of models in a container's volumes: found and opened as the worker would open them.

Volumes are the pod's: what is in them, and how it is named, is hostile. A file is opened below the mount that it is on,
without following a link on the way, and only what is a regular file is opened at all.
"""

import logging
import os
import posixpath
import stat
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from agent.container.files.held_files import is_text
from agent.container.files.safetensors import HeaderError, read_tensors
from agent.container.files.volumes import is_empty_dir
from agent.container.inspection import open_in_container
from linux import syscalls
from linux.credentials import as_user
from linux.proc import Mount, Status

logger = logging.getLogger(__name__)
SUFFIX: Final = ".safetensors"
MOST_FILES: Final = 512
"""That are open at once."""
MOST_NAMES: Final = 200_000
"""Of files and folders that are looked at in all volumes together."""
MOST_LINKS: Final = 8
_OF_THE_KERNEL: Final = ("/dev", "/proc", "/sys")
_BENEATH: Final = syscalls.BENEATH | syscalls.NO_SYMLINKS | syscalls.NO_MAGICLINKS | syscalls.NO_XDEV

T = TypeVar("T")


@dataclass(frozen=True)
class ModelFile:
    """An open file of a model."""

    point: str
    """Where its volume is mounted."""
    name: str
    """Below that point; no part of it is a link."""
    descriptor: int
    """To read; its holder closes it."""
    size: int
    tensors: Sequence[tuple[int, int]]
    """First byte and length of each."""


def volumes_of(mounts: Sequence[Mount], empty_dirs: Collection[str]) -> list[str]:
    """Return the mount points of volumes that another pod has with the same content: no emptyDirs, nothing of ours."""
    points = {mount.point: mount for mount in mounts}  # of two on the same point, the later covers the earlier
    return [
        point
        for point, mount in sorted(points.items())
        if point != "/"
        and is_text(point)
        and not any(point == folder or point.startswith(f"{folder}/") for folder in _OF_THE_KERNEL)
        and not is_empty_dir(mount, empty_dirs)
    ]


def as_worker(user: Status, call: Callable[[], T]) -> T:
    """Call something with the file rights of a container's first process."""
    return as_user(user.uid, user.gid, user.groups, user.capabilities["CapEff"], call)


def find_model_files(
    init_pid: int, user: Status, points: Sequence[str], resources: ExitStack, seconds: float, proc: Path
) -> list[ModelFile]:
    """Open the safetensors files of volumes.

    Args:
        init_pid: of the container.
        user: its first process.
        points: where the volumes are mounted.
        resources: closes the files.
        seconds: after which no more are looked for.
        proc: /proc of the node.
    """
    end = time.monotonic() + seconds
    with ExitStack() as during:
        roots = []
        for point in points:
            with suppress(OSError):  # a single file is mounted there
                roots.append((point, open_in_container(init_pid, point, proc=proc)))
                during.callback(os.close, roots[-1][1])
        return as_worker(user, partial(_find, roots, resources, end))


@dataclass(frozen=True)
class _Name:
    """A file that may be one of a model."""

    used: float
    """When it was read last, as far as its file system keeps that."""
    point: str
    root: int
    name: str


def _find(roots: Sequence[tuple[str, int]], resources: ExitStack, end: float) -> list[ModelFile]:
    """Open what was read last first: of a large store of models, that is the worker's."""
    names = sorted(_names(roots, end), key=lambda each: (-each.used, each.point, each.name))
    found: dict[tuple[int, int], ModelFile] = {}
    for each in names:
        if len(found) == MOST_FILES or time.monotonic() > end:
            logger.warning("not all files of models are looked at", extra={"files": len(names), "looked": len(found)})
            break
        with suppress(OSError, HeaderError), ExitStack() as during:
            model = _opened(each, during)
            identity = os.fstat(model.descriptor)
            if found.setdefault((identity.st_dev, identity.st_ino), model) is model:
                resources.push(during.pop_all())
    return list(found.values())


def _names(roots: Sequence[tuple[str, int]], end: float) -> Iterator[_Name]:
    looked = 0
    for point, root in roots:
        for name in _walk(root):
            looked += 1
            if looked > MOST_NAMES or time.monotonic() > end:
                logger.warning("not all of the volumes is looked at", extra={"volume": point, "names": looked})
                return
            if name.endswith(SUFFIX) and is_text(name):
                with suppress(OSError):
                    real = _resolved(point, root, name)
                    used = os.stat(real, dir_fd=root, follow_symlinks=False).st_atime
                    yield _Name(used, point, root, real)


def _walk(root: int) -> Iterator[str]:
    """Yield all names below a folder, as they come; no link is followed, and no other file system entered.

    A folder may have any number of names, and be any number of folders down.
    """
    left = ["."]
    while left:
        folder = left.pop()
        try:
            opened = syscalls.openat2(root, folder, os.O_RDONLY | os.O_DIRECTORY, resolve=_BENEATH)
        except OSError:
            continue
        try:
            with os.scandir(opened) as entries:
                for entry in entries:
                    name = posixpath.normpath(posixpath.join(folder, entry.name))
                    yield name
                    if entry.is_dir(follow_symlinks=False):
                        left.append(name)
        finally:
            os.close(opened)


def _resolved(point: str, root: int, name: str) -> str:
    """Return what a name that may be a link leads to, without leaving the volume: hubs keep files beside their names.

    Raises:
        OSError: it leads elsewhere.
    """
    for _ in range(MOST_LINKS):
        try:
            target = os.readlink(name, dir_fd=root)
        except OSError:
            return name
        within = target.removeprefix(f"{point}/")
        name = posixpath.normpath(posixpath.join(posixpath.dirname(name), within) if target == within else within)
    raise OSError("too many links")


def _opened(named: _Name, resources: ExitStack) -> ModelFile:
    descriptor = open_regular(named.root, named.name)
    resources.callback(os.close, descriptor)
    size = os.fstat(descriptor).st_size
    return ModelFile(named.point, named.name, descriptor, size, read_tensors(descriptor))


def open_regular(root: int, name: str) -> int:
    """Open a regular file below a folder, to read.

    Raises:
        OSError: it is not there, is no regular file, or a link leads to it.
    """
    place = syscalls.openat2(root, name, os.O_PATH, resolve=_BENEATH)
    try:
        if not stat.S_ISREG(os.fstat(place).st_mode):
            raise FileNotFoundError(f"{name} is no regular file")
        return os.open(f"/proc/self/fd/{place}", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(place)
