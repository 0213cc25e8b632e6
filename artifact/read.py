"""Opens published artifacts, and verifies them file by file."""

import os
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Final

from blake3 import blake3

from artifact import beneath as storage
from artifact.digest import SumOf, digest_of, sum_of
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
    by: SumOf = sum_of
    """How its files are read for their sums."""
    verified: dict[str, Identity] = field(default_factory=dict)
    """What each file was before its sum was taken; empty before that."""

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
        entry = self.manifest.files[name]
        with ExitStack() as during:  # plain calls: a worker has a file for each of its threads
            source = self.open(name)
            during.callback(os.close, source)
            target = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=directory)
            during.callback(os.close, target)
            found = _copied(source, target, entry.size)
        if found != entry.blake3:
            raise _corrupt(name)

    def refuse_changed(self, names: Iterable[str]) -> None:
        """Raise ArtifactError if one of these files is not what it was when it was verified."""
        for name in names:
            os.close(self.open(name))

    def again(self) -> "Artifact":
        """Return it for another thread, which closes that by itself."""
        return replace(self, directory=os.dup(self.directory))

    def close(self) -> None:
        """Let go of the directory."""
        os.close(self.directory)


def _copied(source: int, target: int, size: int) -> str:
    """Copy a file of that size; return its sum, which is another if it has grown or become shorter."""
    hasher, left = blake3(), size + 1
    while left and (part := os.read(source, min(left, _PART))):
        hasher.update(part)
        left -= len(part)
        view = memoryview(part)
        while view:
            view = view[os.write(target, view) :]
        if left == 1 and len(part) < _PART:
            break  # a regular file gives less than was asked for at its end alone
    return hasher.hexdigest()


def open_artifact(base: int, checkpoint_id: str, version: str, wanted: str | None, by: SumOf = sum_of) -> Artifact:
    """Open an artifact; with ``wanted``, only if its manifest has that digest.

    Args:
        base: directory of the store.
        checkpoint_id: of the artifact.
        version: of the artifact.
        wanted: digest of its manifest.
        by: how files are read for their sums; ``sum_of_others`` if others can write in the store.

    Raises:
        ArtifactError: if it is missing, is no artifact of this id and format, or has another digest.
        BadIdError: id or version cannot be part of a path.
    """
    directory = storage.open_beneath(base, f"{check_id(checkpoint_id)}/versions/{check_version(version)}")
    return _opened(directory, checkpoint_id, wanted, by)


def open_sealed(staged: int, checkpoint_id: str, digest: str, by: SumOf = sum_of) -> Artifact:
    """Open an artifact that has no name yet, as one that has is opened.

    Args:
        staged: its directory, which stays the caller's.
        checkpoint_id: of the artifact.
        digest: of its manifest.
        by: as ``open_artifact``.

    Raises:
        ArtifactError: as ``open_artifact``.
    """
    return _opened(os.dup(staged), checkpoint_id, digest, by)


def _opened(directory: int, checkpoint_id: str, wanted: str | None, by: SumOf) -> Artifact:
    try:
        text = _read_manifest(directory)
        digest = _checked_digest(text, wanted)
        manifest = parse_manifest(text, checkpoint_id)
    except BaseException:
        os.close(directory)
        raise
    return Artifact(directory, manifest, digest, by)


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


def verify(
    artifact: Artifact,
    verified: VerifiedFiles | None = None,
    names: Iterable[str] | None = None,
) -> None:
    """Compare size and sum of files with the manifest.

    Args:
        artifact: opened.
        verified: files that are not read again.
        names: of the files that are compared; all without.

    Raises:
        ArtifactError: names the first file that differs.
    """
    for name in artifact.manifest.files if names is None else names:
        fd = _open_to_compare(artifact, name)
        try:
            if not _has(artifact, fd, name, verified):
                raise _corrupt(name)
        finally:
            os.close(fd)


def is_known(artifact: Artifact, name: str, verified: VerifiedFiles | None) -> bool:
    """Say whether a file was found to be what the manifest says; from here on it must stay what it is.

    Raises:
        ArtifactError: it is not there, or has another size.
    """
    fd = _open_to_compare(artifact, name)
    try:
        return verified is not None and verified.knows(fd, artifact.manifest.files[name].blake3)
    finally:
        os.close(fd)


def _open_to_compare(artifact: Artifact, name: str) -> int:
    fd, entry = artifact.open(name), artifact.manifest.files[name]
    before = identity_of(fd, entry.blake3)
    if before.size != entry.size:
        os.close(fd)
        raise _corrupt(name)
    artifact.verified[name] = before
    return fd


def _has(artifact: Artifact, fd: int, name: str, verified: VerifiedFiles | None) -> bool:
    by, wanted = artifact.by, artifact.manifest.files[name].blake3
    try:
        return by(fd) == wanted if verified is None else verified.has(fd, wanted, by)
    except OSError as error:
        words = f"{name} in checkpoint storage: {error.strerror or error}"
        raise ArtifactError(AgentReason.ARTIFACT_UNREADABLE, words) from error


def _corrupt(name: str) -> ArtifactError:
    return ArtifactError(AgentReason.ARTIFACT_CORRUPT, f"{name} is not what the manifest says; capture it again")
