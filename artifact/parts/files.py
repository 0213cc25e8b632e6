"""Of a manifest: files of the worker, and of the artifact."""

from typing import Annotated

from pydantic import Field

from artifact.parts.base import FileName, Part, Path


class Folder(Part):
    """The top folder of a file system, which an archive of its files does not name."""

    mode: Annotated[int, Field(ge=0, le=0o7777)]
    uid: Annotated[int, Field(ge=0)]
    gid: Annotated[int, Field(ge=0)]
    attributes: dict[str, Annotated[str, Field(pattern=r"^([0-9a-f]{2})*$")]] = {}
    """Access lists and the user's own, hexadecimal."""


class RootFilesystem(Part):
    """What the container changed in its root file system."""

    files: Annotated[int, Field(ge=0)]
    deleted: Annotated[int, Field(ge=0)] = 0
    bytes: Annotated[int, Field(ge=0)] = 0
    top: Folder | None = None
    """None in artifacts of earlier releases: it is left as it is."""


class VolumeContent(Part):
    """One volume whose content is in the artifact."""

    point: Path
    """Where it is mounted."""
    file: FileName
    size: Annotated[int, Field(ge=0)] | None = None
    """Bytes that the tmpfs could hold; None for another file system."""
    sockets: list[str] = []
    """Paths of sockets in it, which criu makes itself."""
    bytes: Annotated[int, Field(ge=0)] = 0
    own: list[str] | None = None
    """Paths of files in it that the worker has open for writing: they replace what a new pod has there, all others give
    way to it. None, as earlier releases wrote: all replace it."""
    top: Folder | None = None
    """None in artifacts of earlier releases: it is left as it is."""


class HeldFile(Part):
    """A file of the pod that the worker has open to read, and that must be the same where it is restored."""

    point: Path
    """Where its volume is mounted."""
    name: str
    """Below that point."""
    size: Annotated[int, Field(ge=0)] | None = None
    """None for a folder."""
    blake3: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None


class FileEntry(Part):
    """Size and checksum of one file."""

    size: Annotated[int, Field(ge=0)]
    blake3: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
