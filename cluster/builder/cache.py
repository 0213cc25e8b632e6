"""Where built programs and running clusters are kept, and how a folder is published whole or not at all."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from cluster.errors import BuildError, StateError

NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,30}[a-z0-9])?")
"""A cluster's name becomes part of node names and paths."""

STALE_SECONDS = 24 * 3600
"""Older half-made folders belong to builds that were killed: no build takes a day."""

MANIFEST = ".complete.json"
"""Lists each file's size; written last, so a folder without it, or unlike it, is not whole."""


@dataclass(frozen=True)
class Cache:
    """The cache folder's layout."""

    root: Path

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> Cache:
        """Return $DYNAMO_SNAPSHOT_CACHE, else the user's cache folder."""
        chosen = env.get("DYNAMO_SNAPSHOT_CACHE")
        home = Path(env.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        return cls(Path(chosen).absolute() if chosen else home / "dynamo-snapshot")

    def part(self, name: str, key: str) -> Path:
        """Return the folder of one published part, e.g. ``parts/etcd-3f2a...``."""
        return self.root / "parts" / f"{name}-{key}"

    def compiler(self) -> str:
        """Return the version word of the compiler that the programs were built by last; empty: none were."""
        try:
            return (self.root / "compiler").read_text()
        except FileNotFoundError:
            return ""

    def note_compiler(self, version: str) -> None:
        """Keep that word, for a machine that has the programs and no compiler."""
        if version != self.compiler():
            draft = Path(tempfile.mkdtemp(prefix=".compiler-", dir=self.root)) / "compiler"
            draft.write_text(version)
            draft.rename(self.root / "compiler")
            draft.parent.rmdir()

    @property
    def clusters(self) -> Path:
        """One folder per cluster, there only while it runs."""
        return self.root / "clusters"

    def cluster(self, name: str) -> Path:
        """Return the folder of the cluster *name*; StateError if that cannot be a cluster's name."""
        if not NAME.fullmatch(name):
            raise StateError(f"{name!r} is no name for a cluster: up to 32 lower-case letters, digits and hyphens")
        return self.clusters / name

    def cluster_lock(self, name: str) -> Path:
        """Return the lock file that is held while the cluster *name* is started or stopped."""
        return self.clusters / f"{name}.lock"

    def cluster_names(self) -> list[str]:
        """Return the names of all clusters that have a folder, running or left over."""
        if not self.clusters.is_dir():
            return []
        return sorted(entry.name for entry in self.clusters.iterdir() if entry.is_dir() and NAME.fullmatch(entry.name))


def publish(target: Path, fill: Callable[[Path], None]) -> Path:
    """Have *fill* make the folder *target*, unless it is there and whole.

    The work happens in a sibling folder that is renamed at the end, so that neither a crash nor a second
    builder at the same time can leave half a folder under the final name.
    """
    if is_whole(target):
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    _remove_stale(target.parent)
    with _staging(target) as work:
        fill(work)
        _seal(work)
        _swap_in(work, target)
    if not is_whole(target):
        raise BuildError(f"{target} is incomplete right after it was made; is the disk full?")
    return target


def is_whole(folder: Path) -> bool:
    """Say whether every file that was published is still there with its size."""
    try:
        sizes: dict[str, int] = json.loads((folder / MANIFEST).read_text())
        return all((folder / name).lstat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError):
        return False


@contextlib.contextmanager
def _staging(target: Path) -> Iterator[Path]:
    work = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    work.chmod(0o755)
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _remove_stale(parent: Path) -> None:
    for left in parent.glob(".*-*"):
        with contextlib.suppress(FileNotFoundError):
            if time.time() - left.stat().st_mtime > STALE_SECONDS:
                shutil.rmtree(left, ignore_errors=True)


def _seal(work: Path) -> None:
    files = [path for path in work.rglob("*") if path.is_file() and not path.is_symlink()]
    sizes = {str(path.relative_to(work)): path.stat().st_size for path in files}
    # The bytes must be on disk before the name is: a power cut may otherwise leave right sizes with zeros.
    os.sync()
    (work / MANIFEST).write_text(json.dumps(sizes, indent=1, sort_keys=True))


def _swap_in(work: Path, target: Path) -> None:
    with contextlib.suppress(OSError):
        work.rename(target)
        return
    if is_whole(target):  # another builder was faster; theirs is as good
        return
    broken = Path(tempfile.mkdtemp(prefix=f".{target.name}-broken-", dir=target.parent))
    target.rename(broken / "old")
    work.rename(target)
    shutil.rmtree(broken, ignore_errors=True)
