"""Unpacks the kit. Imports nothing but the standard library: what else is needed is in the kit."""

import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Final

PIECES: Final = "piece-*"
IMAGES: Final = "archives/images.tar"
"""Below the cache, where all archives are loaded from."""


def unpack(kit: Path, target: Path) -> None:
    """Put the pieces together; *target* appears whole, or not at all.

    Raises:
        ValueError: there is no piece.
    """
    pieces = sorted(kit.glob(PIECES))
    if not pieces:
        raise ValueError(f"{kit} holds no {PIECES}; make it: make cluster-kit")
    target.parent.mkdir(parents=True, exist_ok=True)
    staged = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}-"))
    staged.chmod(0o755)
    tar = subprocess.Popen(
        ["tar", "--extract", "--use-compress-program=xz --threads=0", "--directory", staged], stdin=subprocess.PIPE
    )
    assert tar.stdin
    for piece in pieces:
        with piece.open("rb") as stream:
            shutil.copyfileobj(stream, tar.stdin, 1 << 20)
    tar.stdin.close()
    if tar.wait():
        raise subprocess.CalledProcessError(tar.returncode, tar.args)
    shutil.rmtree(target, ignore_errors=True)
    staged.rename(target)
