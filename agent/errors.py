"""The errors of this room.

contract.api.errors.SnapshotError   code and message; the message says what to do
├── RefusedError                    known beforehand not to work; nothing was touched
├── artifact.errors.ArtifactError   missing, partial, changed, or of another format
├── ContainerError                  the container cannot be found, claimed or entered
└── CriuError                       criu ran and failed; the message carries its first errors
"""

from contract.api.errors import SnapshotError


class RefusedError(SnapshotError):
    """Known beforehand not to work; nothing was touched."""


class ContainerError(SnapshotError):
    """The container cannot be found, claimed or entered."""


class CriuError(SnapshotError):
    """criu ran and failed."""
