"""Where artifacts lie, as a descriptor: the agent's own mount, or the worker pod's.

Everything below is opened beneath that descriptor, links and magic links refused: in podMount a worker can write there.
"""

import errno
import os
from pathlib import Path, PurePosixPath
from typing import Final

from agent import kernel
from agent.discover import PROC, mount_of, mounts
from agent.errors import ArtifactError

_SAFE: Final = kernel.BENEATH | kernel.NO_SYMLINKS | kernel.NO_MAGICLINKS
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY


def open_agent_mount(base_path: str) -> int:
    """The store in agentMount.

    Raises:
        ArtifactError: where the volume is not there.
    """
    try:
        return os.open(base_path, _DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise ArtifactError(
            "storage-missing",
            f"checkpoint storage {base_path}: {error.strerror}; is the volume bound and mounted in the agent?",
        ) from error


def open_pod_mount(base_path: str, init_pid: int, proc: Path = PROC) -> int:
    """The store in podMount: what the container of ``init_pid`` has mounted at ``base_path``.

    Raises:
        ArtifactError: where nothing is mounted there, or the path is not a clean absolute one.
    """
    path = PurePosixPath(base_path)
    if not path.is_absolute() or ".." in path.parts or path == PurePosixPath("/"):
        raise ArtifactError("storage-path", f"checkpoint storage {base_path!r} must be a clean absolute path")
    mount = mount_of(base_path, mounts(init_pid, proc))
    if mount is None or mount.point == "/":
        raise ArtifactError(
            "storage-missing", f"nothing is mounted at {base_path} in the container; storage.accessMode is podMount"
        )
    root = os.open(proc / str(init_pid) / "root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return open_beneath(root, str(path.relative_to("/")))
    finally:
        os.close(root)


def open_beneath(directory: int, path: str, flags: int = _DIRECTORY) -> int:
    """Open ``path`` below ``directory``, following no link on the way.

    Raises:
        ArtifactError: where it is not there or a link is in the way.
    """
    try:
        return kernel.openat2(directory, path, flags, resolve=_SAFE)
    except OSError as error:
        code = "artifact-missing" if error.errno in (errno.ENOENT, errno.ENOTDIR) else "artifact-unreadable"
        raise ArtifactError(code, f"{path} in checkpoint storage: {error.strerror}") from error


def make_directories(directory: int, path: str) -> int:
    """Make ``path`` below ``directory`` where it lacks parts; returns the descriptor of the last.

    Raises:
        ArtifactError: where a part is a link or a file, or storage is full or read-only.
    """
    current = os.dup(directory)
    try:
        for part in PurePosixPath(path).parts:
            try:
                os.mkdir(part, 0o755, dir_fd=current)
            except FileExistsError:
                pass
            except OSError as error:
                raise ArtifactError(
                    "storage-unwritable", f"cannot make {path} in checkpoint storage: {error.strerror}"
                ) from error
            inner = open_beneath(current, part)
            os.close(current)
            current = inner
    except ArtifactError:
        os.close(current)
        raise
    return current
