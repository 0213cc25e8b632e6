"""Which GPUs a container has: what the container runtime put into its /dev."""

import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import Final

from agent.container.inspection import open_in_container
from linux.proc import PROC

NVIDIA_MAJOR: Final = 195
NVIDIA_CONTROL_MINOR: Final = 254
"""nvidia-modeset; 255 is nvidiactl."""


def gpu_minors(init_pid: int, proc: Path = PROC) -> frozenset[int]:
    """Return the minor numbers of its GPUs' device nodes; those of control nodes are higher."""
    minors = set()
    with suppress(OSError):
        directory = open_in_container(init_pid, "/dev", os.O_RDONLY | os.O_DIRECTORY, proc)
        try:
            for entry in os.scandir(directory):
                found = entry.stat(follow_symlinks=False)
                if stat.S_ISCHR(found.st_mode) and os.major(found.st_rdev) == NVIDIA_MAJOR:
                    minors.add(os.minor(found.st_rdev))
        finally:
            os.close(directory)
    return frozenset(minor for minor in minors if minor < NVIDIA_CONTROL_MINOR)
