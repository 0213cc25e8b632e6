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
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as scratch:
        staged = Path(scratch, "kit")
        staged.mkdir()
        _extract(pieces, staged)
        shutil.rmtree(target, ignore_errors=True)
        staged.rename(target)


def _extract(pieces: list[Path], target: Path) -> None:
    tar = subprocess.Popen(
        ["tar", "--extract", "--use-compress-program=xz --threads=0", "--directory", target], stdin=subprocess.PIPE
    )
    assert tar.stdin
    with tar.stdin as end:
        for piece in pieces:
            with piece.open("rb") as stream:
                shutil.copyfileobj(stream, end, 1 << 20)
    if tar.wait():
        raise subprocess.CalledProcessError(tar.returncode, tar.args)
