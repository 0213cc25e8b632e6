"""Finds the CUDA driver's library: what the container runtime brought in, or a folder of the node that was mounted."""

from pathlib import Path
from typing import Final

from agent.gpu.driver import LIBRARY

FOLDERS: Final = ("lib64", "usr/lib/x86_64-linux-gnu", "usr/lib64", "lib/x86_64-linux-gnu", ".")
"""Below a driver's root: GKE, the GPU Operator on Debian and on Red Hat, older images, a folder of libraries alone."""


def find_library(root: Path) -> str:
    """Return the path of libcuda below *root*; its name alone, for the loader to find, if it is not there."""
    found = (root / folder / LIBRARY for folder in FOLDERS)
    return next((str(path) for path in found if path.exists()), LIBRARY)
