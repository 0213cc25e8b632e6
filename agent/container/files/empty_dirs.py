"""Where a container has the emptyDirs of its pod, which says of each only by what path it is mounted."""

import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from agent.container.inspection import open_in_container
from linux.descriptors import mount_number
from linux.proc import PROC, Mount

_IN_MEMORY: Final = ("tmpfs", "hugetlbfs")


def mount_points(init_pid: int, paths: Iterable[str], mounts: Sequence[Mount], proc: Path = PROC) -> frozenset[str]:
    """Return the paths, and the mount points that they lead to: a path may go through a link of the image.

    That matters for what is in memory; on disk an emptyDir is known by its place on the node. The links are the
    container's, so nothing but memory is believed to be an emptyDir because one leads there.

    Args:
        init_pid: first process of the container.
        paths: as the pod writes them.
        mounts: of the container.
        proc: /proc of the node.
    """
    found, in_memory = set(paths), {mount.number: mount.point for mount in mounts if mount.fstype in _IN_MEMORY}
    for path in tuple(found):
        with suppress(OSError), _opened(init_pid, path, proc) as place:
            number = mount_number(place)
            if number in in_memory:
                found.add(in_memory[number])
    return frozenset(found)


def is_folder(init_pid: int, point: str, proc: Path = PROC) -> bool:
    """Say whether what is mounted there is a folder, and not one file of a volume (``subPath``).

    Raises:
        OSError: it is not there.
    """
    with _opened(init_pid, point, proc) as place:
        return stat.S_ISDIR(os.fstat(place).st_mode)


@contextmanager
def _opened(init_pid: int, path: str, proc: Path) -> Iterator[int]:
    place = open_in_container(init_pid, path, os.O_PATH, proc)
    try:
        yield place
    finally:
        os.close(place)
