"""Builds the stand-in for the driver's libraries, and arranges what it finds in processes."""

import os
import subprocess
from pathlib import Path

from images import native

SOURCE = Path(__file__).parent / "native" / "stand_in_libcuda.c"
DEVICE = Path(__file__).parent / "native" / "stand_in_device.c"
MARK = "STAND_IN_CUDA"
ROOM = 64
"""Characters after the mark: what a test arranges later must find room."""
GROUP = f"of={os.getpid():x};"
"""The tests of one run: another run on this machine has devices of its own."""

VERSION = "580.0.1"


def build(folder: Path, devices: int = 1, version: str = VERSION, *kinds: str) -> Path:
    """Compile it; return the path of libcuda, with libnvidia-ml beside it.

    Args:
        folder: where to put it.
        devices: that it knows.
        version: that it says.
        kinds: ``NODES``, it finds no device unless its process has the control node in /dev; ``MIG``, its devices are
            divided; ``EXCLUSIVE``, each is for one process at a time.
    """
    target = folder / "libcuda.so.1"
    defined = [
        f"-DDEVICES={devices}",
        f'-DVERSION="{version}"',
        f'-DGROUP="{GROUP}"',
        *(f"-D{kind}" for kind in kinds),
    ]
    flags = [*defined, "-std=gnu11", "-O2", "-s", "-shared", "-fPIC", "-Wall", "-Wextra", "-Werror"]
    subprocess.run([*native.glibc_compiler(), *flags, "-o", target, SOURCE], check=True, capture_output=True)
    (folder / "libnvidia-ml.so.1").symlink_to(target.name)
    return target


def build_device(target: Path, devices: int = 1) -> None:
    """Compile what a worker finds in place of the driver's library."""
    flags = [
        f"-DDEVICES={devices}",
        "-std=gnu11",
        "-O2",
        "-s",
        "-shared",
        "-fPIC",
        "-Wall",
        "-Wextra",
        "-Werror",
        "-Wl,-soname,libcuda.so.1",
    ]
    subprocess.run([*native.glibc_compiler(), *flags, "-o", target, DEVICE], check=True, capture_output=True)


def marked(**arranged: str) -> dict[str, str]:
    """Return the environment of a CUDA process; keywords are what its driver does: ``busy=""``, ``mib="0064"``."""
    words = " ".join(["R", GROUP, *(f"{name}={text}" if text else name for name, text in arranged.items())])
    return {MARK: words.ljust(ROOM)}


def arrange(pid: int, word: str) -> None:
    """Have the driver do something else with a running process from now on: write a word behind its state."""
    start = int(Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()[47])
    with Path(f"/proc/{pid}/mem").open("r+b", buffering=0) as memory:
        memory.seek(start)
        block = memory.read(1 << 14)
        at = block.index(f"{MARK}=".encode()) + len(MARK) + 1
        memory.seek(start + at)
        memory.write(f"{chr(block[at])} {GROUP} {word}".ljust(ROOM).encode())


def state(pid: int) -> str:
    """Return the letter that the stand-in has written into a process."""
    block = Path(f"/proc/{pid}/environ").read_bytes()
    return chr(block[block.index(f"{MARK}=".encode()) + len(MARK) + 1])
