"""A folder of finished build steps, each under the hash of everything that went into it."""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Final

ENV_CACHE: Final = "DYNAMO_SNAPSHOT_CACHE"


def default_root(env: Mapping[str, str] = os.environ) -> Path:
    """Return where finished steps are kept: below ``$DYNAMO_SNAPSHOT_CACHE``, else below the user's cache folder."""
    base = env.get(ENV_CACHE)
    return (Path(base) if base else Path.home() / ".cache" / "dynamo-snapshot") / "images"


def hash_files(root: Path, files: Iterable[Path]) -> str:
    """Hash of the files' paths below ``root``, their contents and whether they are executable."""
    total = hashlib.sha256()
    for file in sorted(files):
        data = file.read_bytes()
        mode = "x" if os.access(file, os.X_OK) else "-"
        total.update(f"{file.relative_to(root)}\0{mode}\0{len(data)}\0".encode())
        total.update(data)
    return total.hexdigest()


class Cache:
    """Build steps by key; an entry appears whole, by rename, or not at all."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def entry(self, step: str, key: Iterable[str], build: Callable[[Path], None]) -> Path:
        """Return the folder of a finished step, building it first if it is missing.

        Two processes may build the same entry at once: the later one takes the earlier one's result.

        Args:
            step: Name of the step, first part of the entry's name.
            key: Everything the result depends on.
            build: Fills the empty folder it is given.
        """
        digest = hashlib.sha256(json.dumps([step, *key]).encode()).hexdigest()[:32]
        final = self._root / f"{step}-{digest}"
        if final.is_dir():
            return final
        self._root.mkdir(parents=True, exist_ok=True)
        staged = Path(tempfile.mkdtemp(prefix=f".{step}-", dir=self._root))
        try:
            build(staged)
            staged.chmod(0o755)
            self._publish(staged, final)
        finally:
            shutil.rmtree(staged, ignore_errors=True)
        return final

    @staticmethod
    def _publish(staged: Path, final: Path) -> None:
        try:
            staged.rename(final)
        except OSError:
            if not final.is_dir():  # another process was first: its entry is as good as ours
                raise

    def forget(self, step: str) -> None:
        """Remove every entry of a step, so that the next build does it again."""
        for old in self._root.glob(f"{step}-*"):
            shutil.rmtree(old)
