"""The errors of this room.

SnapshotError            code and message; the message says what to do
├── RefusedError         known beforehand not to work; nothing was touched
├── ArtifactError        missing, partial, changed, or of another format
├── ContainerError       the container cannot be found, claimed or entered
└── CriuError            criu ran and failed; the message carries its first errors
"""


class SnapshotError(Exception):
    """A capture or restore did not succeed."""

    def __init__(self, code: str, message: str) -> None:
        self.code = code
        """Closed list, kebab case: goes to reports and metrics."""
        super().__init__(message)


class RefusedError(SnapshotError):
    """Known beforehand not to work; nothing was touched."""


class ArtifactError(SnapshotError):
    """The artifact is missing, partial, changed, or of another format."""


class ContainerError(SnapshotError):
    """The container cannot be found, claimed or entered."""


class CriuError(SnapshotError):
    """criu ran and failed."""
