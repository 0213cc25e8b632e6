"""What captures and restores need of checkpoint storage, whatever holds it.

Each backend hands out local directory descriptors: criu and the rest of the executor read and write files.
"""

from contextlib import AbstractContextManager
from typing import Protocol

from artifact.manifest import Captured
from artifact.publish import Published, Staging
from artifact.read import Artifact


class Backend(Protocol):
    """One store of artifacts; every method raises ArtifactError, and BadIdError for an id that is none."""

    def refuse_existing(self, checkpoint_id: str, version: str) -> None:
        """Raise ``artifact-exists`` if the version is there: artifacts are never overwritten."""
        ...

    def stage(self, checkpoint_id: str) -> AbstractContextManager[Staging]:
        """Make a directory to be filled; it is removed again unless it was published."""
        ...

    def seal(self, staged: Staging, checkpoint_id: str, version: str, captured: Captured) -> Published:
        """Complete the staged directory with its manifest; it has no name yet."""
        ...

    def publish(self, staged: Staging, checkpoint_id: str, version: str) -> None:
        """Give the sealed directory its name, whole or not at all."""
        ...

    def open(self, checkpoint_id: str, version: str, digest: str) -> Artifact:
        """Open an artifact as a local directory, only if its manifest has that digest."""
        ...

    def withdraw(self, checkpoint_id: str, version: str) -> None:
        """Remove an artifact again, of which nothing has been reported."""
        ...

    def close(self) -> None:
        """Let go of the store."""
        ...
