"""Builds the stand-in for libcuda.so.1; its folder holds what it knows of processes."""

import subprocess
from pathlib import Path

from images import native

SOURCE = Path(__file__).parent / "native" / "stand_in_libcuda.c"


def build(folder: Path) -> Path:
    """Compile it into a folder of its own, which every user may enter."""
    (folder / "state").mkdir()
    target = folder / "libcuda.so.1"
    flags = ["-std=gnu11", "-O2", "-s", "-shared", "-fPIC", "-Wall", "-Wextra", "-Werror"]
    subprocess.run([*native.glibc_compiler(), *flags, "-o", target, SOURCE], check=True, capture_output=True)
    return target
