"""Opens and makes what is beneath a directory of checkpoint storage: by descriptor, links and magic links refused.

In podMount a worker can write there.
"""

import errno
import os
import stat
from pathlib import PurePosixPath
from typing import Final

from artifact.errors import ArtifactError
from contract.api.states import AgentReason
from linux import syscalls

_SAFE: Final = syscalls.BENEATH | syscalls.NO_SYMLINKS | syscalls.NO_MAGICLINKS
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY


def open_agent_mount(base_path: str) -> int:
    """Open the store in agentMount.

    Raises:
        ArtifactError: if the volume is not there.
    """
    try:
        return os.open(base_path, _DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise ArtifactError(
            AgentReason.STORAGE_MISSING,
            f"checkpoint storage {base_path}: {error.strerror}; is the volume bound and mounted in the agent?",
        ) from error


def open_beneath(directory: int, path: str, flags: int = _DIRECTORY) -> int:
    """Open ``path`` below ``directory``, following no link on the way.

    Raises:
        ArtifactError: if it is not there or a link is in the way.
    """
    try:
        return syscalls.openat2(directory, path, flags, resolve=_SAFE)
    except OSError as error:
        code = (
            AgentReason.ARTIFACT_MISSING
            if error.errno in (errno.ENOENT, errno.ENOTDIR)
            else AgentReason.ARTIFACT_UNREADABLE
        )
        raise ArtifactError(code, f"{path} in checkpoint storage: {error.strerror}") from error


def open_file(directory: int, path: str) -> int:
    """Open a regular file below ``directory``, to read.

    Raises:
        ArtifactError: as ``open_beneath``, or it is something else: a pipe would be waited for without end.
    """
    fd = open_beneath(directory, path, os.O_RDONLY | os.O_NONBLOCK)
    if stat.S_ISREG(os.fstat(fd).st_mode):
        return fd
    os.close(fd)
    raise ArtifactError(AgentReason.ARTIFACT_UNREADABLE, f"{path} in checkpoint storage: not a regular file")


def make_directories(directory: int, path: str) -> int:
    """Make the missing parts of ``path`` below ``directory``; returns the descriptor of the last.

    Raises:
        ArtifactError: if a part is a link or a file, or storage is full or read-only.
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
                    AgentReason.STORAGE_UNWRITABLE, f"cannot make {path} in checkpoint storage: {error.strerror}"
                ) from error
            inner = open_beneath(current, part)
            os.close(current)
            current = inner
    except ArtifactError:
        os.close(current)
        raise
    return current
