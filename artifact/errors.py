"""The error of this room."""

from contract.api.errors import SnapshotError


class ArtifactError(SnapshotError):
    """The artifact is missing, partial, changed, or of another format."""
