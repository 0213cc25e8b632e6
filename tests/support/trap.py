"""Builds the trap: a shared object that leaves a mark when a process loads it."""

import subprocess
from pathlib import Path

from images import native

SOURCE = Path(__file__).parent / "native" / "trap.c"


def build(folder: Path) -> Path:
    """Compile it for the C library of glibc images."""
    target = folder / "trap.so"
    subprocess.run(
        [*native.glibc_compiler(), "-O2", "-s", "-shared", "-fPIC", "-o", target, SOURCE],
        check=True,
        capture_output=True,
    )
    return target
