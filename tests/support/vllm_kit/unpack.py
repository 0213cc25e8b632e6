"""Unpacks the kit on the machine with the card, and makes a model: nothing but its Python and PyTorch is needed."""

import compileall
import hashlib
import os
import shutil
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from tests.support.vllm_kit.model import make_model

PIECES: Final = {"site.tar.xz": "site", "extensions.tar.xz": "site", "gpu-kit.tar.xz": "gpu-kit"}
COMPLETE: Final = "complete"
MODEL, LARGE_MODEL = MODELS = ("model", "model-large")
"""The second is made by a benchmark."""


def unpack(kit: Path, folder: Path) -> None:
    """Fill a folder that every user may read, with byte code: the worker's user may write none. Nothing to do if done.

    Raises:
        ValueError: a piece of the kit is missing, or the folder is in use for something else.
    """
    if missing := [name for name in PIECES if not (kit / name).is_file()]:
        raise ValueError(f"{kit} has no {', '.join(missing)}: run make vllm-kit first, where registries can be reached")
    complete, wanted = folder / COMPLETE, digest(kit)
    if complete.is_file() and complete.read_text() == wanted:
        return
    os.umask(0o022)
    if folder.is_dir() and {path.name for path in folder.iterdir()} - {COMPLETE, *MODELS, *PIECES.values()}:
        raise ValueError(f"{folder} holds something else than a kit: name another folder in VLLM_HOME")
    shutil.rmtree(folder, ignore_errors=True)
    # The decompressor runs outside of Python's lock.
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda name: _extract(kit / name, folder / PIECES[name]), PIECES))
    compileall.compile_dir(folder / "site", quiet=2, workers=0)
    make_model(folder / MODEL)
    complete.write_text(wanted)


def digest(kit: Path) -> str:
    """Return what changes if a piece of the kit does."""
    return " ".join(hashlib.sha256((kit / name).read_bytes()).hexdigest() for name in PIECES)


def _extract(piece: Path, target: Path) -> None:
    target.mkdir(
        parents=True, exist_ok=True
    )  # two pieces go to one folder at once, and tarfile makes it without a look
    with tarfile.open(piece) as tar:
        tar.extractall(target, filter="fully_trusted")  # with the modes that it was packed with
