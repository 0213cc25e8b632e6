"""Opens published artifacts, and verifies them file by file."""

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from blake3 import blake3

from artifact import beneath as storage
from artifact.digest import digest_of, sum_of
from artifact.errors import ArtifactError
from artifact.manifest import MANIFEST, MAX_MANIFEST, Manifest, parse_manifest
from artifact.verified import Identity, VerifiedFiles, identity_of
from contract.api.states import AgentReason
from contract.config.storage import check_id, check_version

_PART: Final = 1 << 20
"""Bytes that are copied at once."""


@dataclass(frozen=True)
class Artifact:
    """An opened artifact whose manifest has the wanted digest."""

    directory: int
    manifest: Manifest
    digest: str
    verified: dict[str, Identity] = field(default_factory=dict)
    """What each file was when its sum was found right; empty before it is verified."""

    @property
    def size(self) -> int:
        """Bytes of all files but the manifest."""
        return self.manifest.size

    def open(self, name: str) -> int:
        """Open one of its files, to read.

        Raises:
            ArtifactError: it is not there, or not the file that was verified.
        """
        fd = storage.open_file(self.directory, name)
        known = self.verified.get(name)
        if known is not None and known != identity_of(fd, known.blake3):
            os.close(fd)
            words = f"{name} has been changed or replaced in storage since it was verified"
            raise ArtifactError(AgentReason.ARTIFACT_CORRUPT, words)
        return fd

    def copy(self, name: str, directory: int) -> None:
        """Copy one of its files into a directory; what is copied is what the manifest says.

        Raises:
            ArtifactError: it is not there, or has another content.
        """
        entry, hasher, size = self.manifest.files[name], blake3(), 0
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        with (
            os.fdopen(self.open(name), "rb", buffering=0) as source,
            os.fdopen(os.open(name, flags, 0o600, dir_fd=directory), "wb") as target,
        ):
            while size <= entry.size and (part := source.read(_PART)):
                size += len(part)
                hasher.update(part)
                target.write(part)
        if size != entry.size or hasher.hexdigest() != entry.blake3:
            raise _corrupt(name)

    def refuse_changed(self, names: Iterable[str]) -> None:
        """Raise ArtifactError if one of these files is not what it was when it was verified."""
        for name in names:
            os.close(self.open(name))

    def close(self) -> None:
        """Let go of the directory."""
        os.close(self.directory)


def open_artifact(base: int, checkpoint_id: str, version: str, wanted: str | None) -> Artifact:
    """Open an artifact; with ``wanted``, only if its manifest has that digest.

    Raises:
        ArtifactError: if it is missing, is no artifact of this id and format, or has another digest.
        BadIdError: id or version cannot be part of a path.
    """
    directory = storage.open_beneath(base, f"{check_id(checkpoint_id)}/versions/{check_version(version)}")
    return _opened(directory, checkpoint_id, wanted)


def open_sealed(staged: int, checkpoint_id: str, digest: str) -> Artifact:
    """Open an artifact that has no name yet, as one that has is opened.

    Args:
        staged: its directory, which stays the caller's.
        checkpoint_id: of the artifact.
        digest: of its manifest.

    Raises:
        ArtifactError: as ``open_artifact``.
    """
    return _opened(os.dup(staged), checkpoint_id, digest)


def _opened(directory: int, checkpoint_id: str, wanted: str | None) -> Artifact:
    try:
        text = _read_manifest(directory)
        digest = _checked_digest(text, wanted)
        manifest = parse_manifest(text, checkpoint_id)
    except BaseException:
        os.close(directory)
        raise
    return Artifact(directory, manifest, digest)


def _checked_digest(text: bytes, wanted: str | None) -> str:
    digest = digest_of(text)
    if wanted is not None and digest != wanted:
        raise ArtifactError(
            AgentReason.MANIFEST_DIGEST, f"the artifact's manifest is {digest}, its DynamoCheckpoint names {wanted}"
        )
    return digest


def _read_manifest(directory: int) -> bytes:
    with os.fdopen(storage.open_file(directory, MANIFEST), "rb") as file:
        text = file.read(MAX_MANIFEST + 1)
    if len(text) > MAX_MANIFEST:
        raise ArtifactError(AgentReason.MANIFEST_UNREADABLE, f"{MANIFEST} is larger than {MAX_MANIFEST >> 20} MiB")
    return text


def verify(artifact: Artifact, verified: VerifiedFiles | None = None, names: Iterable[str] | None = None) -> None:
    """Compare size and sum of files with the manifest, of all without *names*; the *verified* are not read again.

    Raises:
        ArtifactError: names the first file that differs.
    """
    files = artifact.manifest.files
    for name in files if names is None else names:
        fd, entry = artifact.open(name), files[name]
        try:
            before = identity_of(fd, entry.blake3)
            if verified is None or not verified.knows(fd, entry.blake3):
                if os.fstat(fd).st_size != entry.size or sum_of(fd) != entry.blake3:
                    raise _corrupt(name)
                if verified is not None:
                    verified.remember(before, fd, entry.blake3)
            artifact.verified[name] = before
        finally:
            os.close(fd)


def _corrupt(name: str) -> ArtifactError:
    return ArtifactError(AgentReason.ARTIFACT_CORRUPT, f"{name} is not what the manifest says; capture it again")
