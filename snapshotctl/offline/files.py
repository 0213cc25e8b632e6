"""Read what the command line names: manifests, a cluster's objects, the chart's values.

Every reader raises an InputError that names the file if it cannot be read.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from contract.config.values import Values, ValuesError, load_values
from kube.api import Object
from snapshotctl.errors import InputError
from snapshotctl.offline.objects import read_manifests, read_objects

MANIFESTS: Final = (".json", ".yaml", ".yml")
"""What kubectl reads of a folder; a file that is named itself may be called anything."""
STDIN: Final = Path("-")


def objects_of(path: Path) -> list[Object]:
    """Read the objects that a cluster holds."""
    return read_objects(text_of(path), str(path))


def manifests_of(*paths: Path, recursive: bool = False) -> list[Object]:
    """Read the objects of files and folders that are not in a cluster yet."""
    return [obj for path in _files(paths, recursive=recursive) for obj in read_manifests(text_of(path), str(path))]


def values_of(path: Path | None) -> Values:
    """Read the chart's values; without a file, its defaults."""
    try:
        return load_values(text_of(path) if path else "")
    except ValuesError as error:
        raise InputError(f"{path}: {error}") from error


def text_of(path: Path) -> str:
    """Read a file, or standard input for ``-``."""
    try:
        return sys.stdin.read() if path == STDIN else path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text: {error.reason} at byte {error.start}") from error


def _files(paths: Sequence[Path], *, recursive: bool) -> Iterator[Path]:
    for path in paths:
        if path == STDIN or not path.is_dir():
            yield path
            continue
        found = sorted(each for each in path.glob("**/*" if recursive else "*") if _is_manifest(each))
        if not found:
            deeper = "" if recursive else "; -R reads the folders in it too"
            raise InputError(f"{path}: no file in it ends in {', '.join(MANIFESTS)}{deeper}")
        yield from found


def _is_manifest(path: Path) -> bool:
    return path.suffix in MANIFESTS and path.is_file()
