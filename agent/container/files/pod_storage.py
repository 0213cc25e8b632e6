"""Checkpoint storage through the worker's pod: what a container has mounted (podMount)."""

import os
from pathlib import Path, PurePosixPath

from artifact.beneath import open_beneath
from artifact.errors import ArtifactError
from contract.api.states import AgentReason
from linux.proc import PROC, mount_of, mounts


def open_pod_mount(base_path: str, init_pid: int, proc: Path = PROC) -> int:
    """Open the store in podMount: what the container of ``init_pid`` has mounted at ``base_path``.

    Raises:
        ArtifactError: if nothing is mounted there, or the path is not a clean absolute one.
    """
    path = PurePosixPath(base_path)
    if not path.is_absolute() or ".." in path.parts or path == PurePosixPath("/"):
        raise ArtifactError(AgentReason.STORAGE_PATH, f"checkpoint storage {base_path!r} must be a clean absolute path")
    mount = mount_of(base_path, mounts(init_pid, proc))
    if mount is None or mount.point == "/":
        raise ArtifactError(
            AgentReason.STORAGE_MISSING,
            f"nothing is mounted at {base_path} in the container; storage.accessMode is podMount",
        )
    root = os.open(proc / str(init_pid) / "root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return open_beneath(root, str(path.relative_to("/")))
    finally:
        os.close(root)
