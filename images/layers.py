"""Folders packed as image layers, byte for byte the same wherever and whenever it is done."""

import hashlib
import os
import stat
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

EPOCH: Final = 315532800
"""1 January 1980: the one time all entries carry; earlier ones cannot be written into zip files made from them."""


@dataclass(frozen=True)
class Layer:
    """A packed layer on disk.

    Attributes:
        path: The blob; ours are plain tar files, those of a foreign base may be compressed.
        diff_id: ``sha256:<hex>`` of the uncompressed tar.
    """

    path: Path
    diff_id: str


def sha256_file(path: Path) -> str:
    """Return ``sha256:<hex>`` of a file."""
    with path.open("rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()


def pack(root: Path, target: Path) -> Layer:
    """Pack everything below ``root``: sorted, owned by 0:0, one time, modes free of the umask."""
    with tarfile.open(target, "w", format=tarfile.PAX_FORMAT) as tar:
        for path in _walk(root):
            _add(tar, path, path.relative_to(root).as_posix())
    return Layer(target, sha256_file(target))


def load(target: Path) -> Layer:
    """Return the layer that an earlier ``pack`` wrote."""
    return Layer(target, sha256_file(target))


def _walk(root: Path) -> list[Path]:
    found: list[Path] = []
    for folder, folders, files in os.walk(root):
        found += [Path(folder, name) for name in (*folders, *files)]
    return sorted(found, key=lambda path: path.parts)


def _add(tar: tarfile.TarFile, path: Path, name: str) -> None:
    info = tarfile.TarInfo(name)
    info.mtime = EPOCH
    status = path.lstat()
    info.mode = _mode(status.st_mode)
    if stat.S_ISLNK(status.st_mode):
        info.type, info.linkname = tarfile.SYMTYPE, str(path.readlink())
        tar.addfile(info)
    elif stat.S_ISDIR(status.st_mode):
        info.type = tarfile.DIRTYPE
        tar.addfile(info)
    elif stat.S_ISREG(status.st_mode):
        info.size = status.st_size
        with path.open("rb") as file:
            tar.addfile(info, file)


def _mode(mode: int) -> int:
    if stat.S_ISLNK(mode):
        return 0o777
    if stat.S_ISDIR(mode):
        return 0o1777 if mode & stat.S_ISVTX else 0o755
    return 0o755 if mode & 0o100 else 0o644
