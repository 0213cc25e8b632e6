"""Files that a worker only reads and that belong to its pod: they must be the same in the pod that it is restored in.

Kubelet keeps the files of ConfigMap, Secret, projected and downward volumes in a folder named after the moment it was
made (``..2026_11_28_16_49_00.123``), which ``..data`` leads to. Who opens ``start.sh`` has a file beneath that folder,
and criu opens it again by that path; in the new pod the folder has another name.
"""

import os
import re
import stat
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from blake3 import blake3

from agent.container.inspection import open_in_container
from agent.errors import RefusedError
from artifact.parts.files import HeldFile
from contract.api.states import AgentReason
from linux import syscalls
from linux.proc import Mount, mount_of

CURRENT: Final = "..data"
OF_EACH_POD: Final = frozenset({"/etc/hosts", "/etc/hostname", "/etc/resolv.conf"})
"""Mounted into every container, with its pod's name and address."""
LARGEST: Final = 4 << 30
"""Bytes of one file that is compared: 4 GiB take some seconds, at a capture and at each restore."""
BLOCK: Final = 1 << 20
_FOLDER: Final = re.compile(r"\.\.[0-9]{4}(_[0-9]{2}){5}\.[0-9]+")
_DATED: Final = re.compile(rf"/{_FOLDER.pattern}/")
"""In the root of a mount: of such a volume one file or folder alone is mounted (``subPath``)."""
_BENEATH: Final = syscalls.BENEATH | syscalls.NO_SYMLINKS | syscalls.NO_MAGICLINKS | syscalls.NO_XDEV


def dated_folder(name: str) -> str | None:
    """Return the folder of kubelet's that a name below a volume's root begins with; None if it does not."""
    first = name.partition("/")[0]
    return first if _FOLDER.fullmatch(first) else None


def is_text(path: str) -> bool:
    """Say whether a manifest can name a path; others are as old as their file systems, and not kubelet's."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def held_paths(
    in_use: Iterable[str], written: Iterable[str], mounts: Sequence[Mount], scratch: Iterable[str]
) -> list[tuple[str, str]]:
    """Return mount point and name of what must be the same; the name is empty if the file itself is mounted.

    Args:
        in_use: paths that the worker has open or mapped.
        written: those of them that it has open for writing, which are its own.
        mounts: the container's.
        scratch: mount points of emptyDirs.
    """
    scratch, mounted, found = set(scratch), list(mounts), []
    for path in filter(is_text, sorted(set(in_use) - set(written))):
        mount = mount_of(path, mounted)
        if mount is not None and mount.point != "/":
            name = path.removeprefix(mount.point).removeprefix("/")
            if dated_folder(name) is not None or _DATED.search(mount.root) or mount.point in scratch | OF_EACH_POD:
                found.append((mount.point, name))
    return found


def describe(init_pid: int, point: str, name: str, proc: Path, *, is_final: bool = True) -> HeldFile | None:
    """Describe a file that the worker has open; None if it is neither file nor folder, or was deleted.

    The root of a volume is not described: a pod that mounts it has it.

    Args:
        init_pid: of the container.
        point: where the file's volume is mounted.
        name: below that point; empty for the file that is mounted there.
        proc: /proc of the node.
        is_final: whether its content is read: not where only a refusal matters.

    Raises:
        RefusedError: kubelet has replaced it, or it is too large to be compared.
    """
    try:
        root = open_in_container(init_pid, point, os.O_PATH, proc)
        try:
            return _read(root, point, name, name, is_final=is_final)
        finally:
            os.close(root)
    except OSError as error:
        if dated_folder(name) is None:
            return None
        raise RefusedError(
            AgentReason.VOLUME_FILE_REPLACED,
            f"the worker has {point}/{name} open, which kubelet has replaced since: start the worker again",
        ) from error


def _read(root: int, point: str, name: str, recorded: str, *, is_final: bool = True) -> HeldFile | None:
    place = syscalls.openat2(root, name, os.O_PATH, resolve=_BENEATH) if name else os.dup(root)
    try:
        found = os.fstat(place)
        if stat.S_ISDIR(found.st_mode):
            return HeldFile(point=point, name=recorded) if name else None
        # One without a name any more is of a mount that outlives its source, and criu keeps its content.
        if not stat.S_ISREG(found.st_mode) or not found.st_nlink:
            return None
        _refuse_large(found.st_size, _shown(point, name))
        if not is_final:
            return HeldFile(point=point, name=recorded, size=found.st_size)
        file = os.open(f"/proc/self/fd/{place}", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(place)
    try:
        return HeldFile(point=point, name=recorded, size=found.st_size, blake3=_sum(file, found.st_size))
    finally:
        os.close(file)


def _refuse_large(size: int, shown: str) -> None:
    if size > LARGEST:
        words = f"{shown} is open and has {size >> 20} MiB; more than {LARGEST >> 20} MiB is not compared"
        raise RefusedError(AgentReason.VOLUME_TOO_LARGE, words)


def _sum(file: int, size: int) -> str:
    """Return the blake3 of a file that its worker, or another container, may change or cut off meanwhile."""
    found, at = blake3(), 0
    while at < size and (block := os.pread(file, min(BLOCK, size - at), at)):
        found.update(block)
        at += len(block)
    return found.hexdigest()


def check(init_pid: int, held: Iterable[HeldFile], proc: Path) -> list[tuple[str, str]]:
    """Compare what the worker had open with what the new container has.

    Returns:
        Mount point and former name of each folder of kubelet's that has another name now.

    Raises:
        RefusedError: a file is another, or one of kubelet's is missing.
    """
    renamed: dict[tuple[str, str], None] = {}
    for then in held:
        folder, current, now = dated_folder(then.name), None, None
        with suppress(OSError):
            root = open_in_container(init_pid, then.point, os.O_PATH, proc)
            try:
                current = _current(root) if folder is not None else None
                now = _read(root, then.point, _name_now(then.name, folder, current), then.name)
            finally:
                os.close(root)
        if now != then and (now is not None or folder is not None):
            is_there = "is another file in this pod" if now is not None else "is not in this pod"
            shown = _shown(then.point, _name_now(then.name, folder, CURRENT))
            raise RefusedError(
                AgentReason.VOLUME_FILE_CHANGED, f"{shown}, which the captured worker has open, {is_there}"
            )
        if folder is not None and folder != current:
            renamed[then.point, folder] = None
    return list(renamed)


def _current(root: int) -> str:
    """Return the folder that ``..data`` leads to.

    Raises:
        OSError: there is none.
    """
    found = os.readlink(CURRENT, dir_fd=root)
    if _FOLDER.fullmatch(found) is None:
        raise FileNotFoundError(f"{CURRENT} leads to {found!r}")
    return found


def _shown(point: object, name: str) -> str:
    return f"{point}/{name}" if name else str(point)


def _name_now(name: str, folder: str | None, current: str | None) -> str:
    return name if folder is None or current is None else current + name.removeprefix(folder)
