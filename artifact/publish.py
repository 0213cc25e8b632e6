"""Publishes an artifact: whole or not at all.

``<base>/<id>/versions/<version>`` is staged as ``<base>/<id>/tmp/<uuid>``: files synced, the manifest last, which seals
it. Once it is proved, one rename gives it a name that did not exist: whatever ends before leaves no artifact. The
manifest's blake3 is the trust anchor: it is kept in the DynamoCheckpoint, and a restore accepts no other; every file in
turn is in the manifest by size and blake3.
"""

import errno
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Final

from artifact import beneath as storage
from artifact.digest import SumOf, digest_of, sum_of
from artifact.errors import ArtifactError
from artifact.manifest import MANIFEST, Captured, write_manifest
from artifact.parts.files import FileEntry
from contract.api import keys
from contract.api.states import AgentReason
from contract.config.storage import check_id, check_version

FORGOTTEN: Final = 86400.0
"""Seconds after which a staging directory has no owner."""


@dataclass(frozen=True)
class Published:
    """What the controller learns of an artifact."""

    digest: str
    """``blake3:<64 hex>`` of the manifest."""
    size: int
    """Bytes of all files."""


class Staging:
    """A directory being filled; ``directory`` is its descriptor."""

    def __init__(self, parent: int, name: str, directory: int) -> None:
        self.parent = parent
        self.name = name
        self.directory = directory

    def file(self, name: str) -> int:
        """Open a new file to write."""
        return os.open(
            name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=self.directory
        )


@contextmanager
def staging(base: int, checkpoint_id: str) -> Iterator[Staging]:
    """Make a staging directory; it is removed again unless it was published.

    Raises:
        ArtifactError: storage cannot be written.
    """
    parent = storage.make_directories(base, f"{check_id(checkpoint_id)}/tmp")  # noqa: S108 - a name of ours
    name = str(uuid.uuid4())
    try:
        _sweep(parent)
        directory = storage.make_directories(parent, name)
        try:
            yield Staging(parent, name, directory)
        finally:
            os.close(directory)
            shutil.rmtree(name, ignore_errors=True, dir_fd=parent)
    finally:
        os.close(parent)


def _sweep(parent: int) -> None:
    """Remove what agents left that were killed while they staged; nothing stages for a day."""
    for name in os.listdir(parent):
        with suppress(OSError):
            if os.lstat(name, dir_fd=parent).st_mtime < time.time() - FORGOTTEN:
                shutil.rmtree(name, ignore_errors=True, dir_fd=parent)


def seal(staged: Staging, checkpoint_id: str, version: str, captured: Captured, by: SumOf = sum_of) -> Published:
    """Complete the manifest with every file's size and sum, and sync all: the artifact is whole, and has no name yet.

    Args:
        staged: with all files but the manifest.
        checkpoint_id: of the artifact.
        version: of the artifact.
        captured: what the manifest says of the worker.
        by: how files are read for their sums; ``sum_of_others`` if others can write in the store.

    Raises:
        ArtifactError: storage fails.
    """
    try:
        files = _sums(staged.directory, by)
        text = write_manifest(captured, checkpoint_id, version, files)
        _write_synced(staged, text)
    except OSError as error:
        raise unwritable(error) from error
    return Published(digest_of(text), sum(entry.size for entry in files.values()) + len(text))


def publish(base: int, staged: Staging, checkpoint_id: str, version: str) -> None:
    """Give a sealed artifact its name.

    Raises:
        ArtifactError: the name exists (artifacts are never overwritten), or storage fails.
    """
    try:
        versions = storage.make_directories(base, f"{check_id(checkpoint_id)}/versions")
        try:
            _rename_new(staged, versions, check_version(version))
            _sync_or_remove(versions, version)
        finally:
            os.close(versions)
    except OSError as error:
        raise unwritable(error) from error


def unwritable(error: OSError) -> ArtifactError:
    """Make of a write that failed what people read."""
    return ArtifactError(AgentReason.STORAGE_UNWRITABLE, f"checkpoint storage: {error.strerror}; is it full?")


def _sums(directory: int, by: SumOf) -> dict[str, FileEntry]:
    files: dict[str, FileEntry] = {}
    for name in sorted(os.listdir(directory)):
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
        try:
            os.fchmod(fd, 0o600)
            os.fsync(fd)
            files[name] = FileEntry(size=os.fstat(fd).st_size, blake3=by(fd))
        finally:
            os.close(fd)
    return files


def _write_synced(staged: Staging, text: bytes) -> None:
    with os.fdopen(staged.file(MANIFEST), "wb") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.fsync(staged.directory)


def _rename_new(staged: Staging, versions: int, version: str) -> None:
    """Rename over nothing or over an empty directory, never over an artifact: those hold a manifest."""
    try:
        os.rename(staged.name, version, src_dir_fd=staged.parent, dst_dir_fd=versions)
    except OSError as error:
        if error.errno in (errno.EEXIST, errno.ENOTEMPTY):
            raise _exists(version) from error
        raise


def _sync_or_remove(versions: int, version: str) -> None:
    """Sync the new name, or remove it: a name that a power cut may take back must not denote an artifact."""
    try:
        os.fsync(versions)
    except OSError:
        shutil.rmtree(version, ignore_errors=True, dir_fd=versions)
        raise


def withdraw(base: int, checkpoint_id: str, version: str) -> None:
    """Remove a published artifact again, of which nothing has been reported.

    Raises:
        ArtifactError: it is not there.
        OSError: storage refuses.
    """
    versions = storage.open_beneath(base, f"{check_id(checkpoint_id)}/versions")
    try:
        shutil.rmtree(check_version(version), dir_fd=versions)
    finally:
        os.close(versions)


def _exists(version: str) -> ArtifactError:
    return ArtifactError(
        AgentReason.ARTIFACT_EXISTS,
        f"version {version} exists in checkpoint storage and is never overwritten; take it over with "
        f"`snapshotctl adopt`, set annotation {keys.ANN_ARTIFACT_VERSION} to a new version, or remove the artifact",
    )


def refuse_existing(base: int, checkpoint_id: str, version: str) -> None:
    """Say before a capture what its publishing would say.

    Raises:
        ArtifactError: the version exists.
    """
    try:
        os.close(
            storage.open_beneath(
                base, f"{check_id(checkpoint_id)}/versions/{check_version(version)}/{MANIFEST}", os.O_PATH
            )
        )
    except ArtifactError:
        return
    raise _exists(version)
