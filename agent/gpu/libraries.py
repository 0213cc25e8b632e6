"""Finds the CUDA driver's library: what a container runtime brought into the agent, or the node's own."""

import os
import platform
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Final

from agent.gpu.driver import LIBRARY
from linux import syscalls

_DEBIAN: Final = f"{platform.machine()}-linux-gnu"
FOLDERS: Final = (
    f"usr/lib/{_DEBIAN}",
    "usr/lib64",
    f"lib/{_DEBIAN}",
    "lib64",
    "usr/local/nvidia/lib64",
    ".",
)
"""Below a root: Debian, Red Hat, older images, GKE's folder and its mount, a folder of libraries alone."""
NODE_ROOTS: Final = ("run/nvidia/driver", "home/kubernetes/bin/nvidia", ".")
"""Below the node's root: the GPU Operator's driver container, GKE, a driver installed on the node itself."""


def driver_roots(host_root: Path, named: str = "") -> list[Path]:
    """Return where a driver may be, the likeliest first.

    Args:
        host_root: where the node's root file system shows.
        named: the chart's ``gpu.driverRoot``, a folder of the node; empty: none.
    """
    node = [named.lstrip("/")] if named else NODE_ROOTS
    return [Path("/"), *(host_root / root for root in node)]


def device_roots(host_root: Path, named: str = "") -> list[Path]:
    """Return whose /dev may have the driver's device nodes; the arguments are those of ``driver_roots``.

    The agent's own is no source, and that of the node is one in any case: a folder with a driver may have no nodes.
    """
    return [*driver_roots(host_root, named)[1:], host_root]


def find_library(roots: Iterable[Path]) -> str:
    """Return the path of libcuda below the first root that has it; its name alone, for the loader, if none has."""
    found = (_below(root, f"{folder}/{LIBRARY}") for root in roots for folder in FOLDERS)
    return next((path for path in found if path), LIBRARY)


def _below(root: Path, name: str) -> str:
    """Return the path of a file if it is there; a link that begins with / leads on from the root, as on the node."""
    if (root / name).exists():
        return str(root / name)
    with suppress(OSError), ExitStack() as opened:
        base = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        opened.callback(os.close, base)
        file = syscalls.openat2(base, name, os.O_PATH, resolve=syscalls.IN_ROOT | syscalls.NO_MAGICLINKS)
        opened.callback(os.close, file)
        return str(Path(f"/proc/self/fd/{file}").readlink())
    return ""
