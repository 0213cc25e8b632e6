"""Artifacts in a directory: a mounted volume, by its descriptor."""

import os
from contextlib import AbstractContextManager

from artifact.digest import SumOf, sum_of
from artifact.manifest import Captured
from artifact.publish import Published, Staging, publish, refuse_existing, seal, staging, withdraw
from artifact.read import Artifact, open_artifact


class DirectoryBackend:
    """The ``Backend`` over an open directory, which it owns.

    Args:
        root: the directory.
        by: how files are read for their sums; ``sum_of_others`` if others can write there.
    """

    def __init__(self, root: int, by: SumOf = sum_of) -> None:
        self._root = root
        self._by = by

    def refuse_existing(self, checkpoint_id: str, version: str) -> None:
        """See ``Backend``."""
        refuse_existing(self._root, checkpoint_id, version)

    def stage(self, checkpoint_id: str) -> AbstractContextManager[Staging]:
        """See ``Backend``."""
        return staging(self._root, checkpoint_id)

    def seal(self, staged: Staging, checkpoint_id: str, version: str, captured: Captured) -> Published:
        """See ``Backend``."""
        return seal(staged, checkpoint_id, version, captured, self._by)

    def publish(self, staged: Staging, checkpoint_id: str, version: str) -> None:
        """See ``Backend``."""
        publish(self._root, staged, checkpoint_id, version)

    def open(self, checkpoint_id: str, version: str, digest: str) -> Artifact:
        """See ``Backend``."""
        return open_artifact(self._root, checkpoint_id, version, digest, self._by)

    def withdraw(self, checkpoint_id: str, version: str) -> None:
        """See ``Backend``."""
        withdraw(self._root, checkpoint_id, version)

    def close(self) -> None:
        """See ``Backend``."""
        os.close(self._root)
