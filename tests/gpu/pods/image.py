"""An image of this machine's own programs and libraries, for workers that use its Python; no registry is asked."""

import subprocess
import tempfile
from pathlib import Path
from typing import Final

from images import archive, layers

NAME: Final = "gpu-tests/worker:dev"
HELD: Final = (
    *("bin", "lib", "lib64", "sbin", "etc/group", "etc/ld.so.conf", "etc/nsswitch.conf", "etc/passwd"),
    *("usr/bin", "usr/include", "usr/lib/gcc", "usr/lib/python3*", "usr/lib/x86_64-linux-gnu", "usr/lib64"),
    *("usr/libexec/gcc", "usr/sbin"),
)
LEFT_OUT: Final = ("libcudnn*", "libnccl*", "*.a")
"""CUDA's own libraries and tools: PyTorch brings what it needs."""


def write_image(target: Path) -> None:
    """Write the archive."""
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        layer = Path(folder, "layer.tar")
        found = [path.relative_to("/") for pattern in HELD for path in Path("/").glob(pattern)]
        argv = ["tar", "--create", "--file", layer, "--numeric-owner", "--directory", "/"]
        subprocess.run([*argv, *(f"--exclude={name}" for name in LEFT_OUT), *found], check=True)
        runtime = {"Env": ["PATH=/usr/bin:/bin"], "WorkingDir": "/"}
        archive.write(archive.image(runtime, (layers.load(layer),)), NAME, target)
