"""The artifact: a directory of files named by a manifest, published whole or not at all.

``<base>/<id>/versions/<version>`` is staged as ``<base>/<id>/tmp/<uuid>``: files synced, the manifest last, then one
rename to a name that did not exist.  The manifest's blake3 is the trust anchor: it is kept in the DynamoCheckpoint, and
a restore accepts no other; every file in turn is in the manifest by size and blake3.
"""

import errno
import os
import shutil
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final

import yaml
from blake3 import blake3

from agent import store
from agent.errors import ArtifactError
from contract.api import keys
from contract.config.storage import check_id, check_version
from contract.config.yaml import load_yaml

FORMAT_VERSION: Final = 1
MANIFEST: Final = "manifest.yaml"
ROOTFS_TAR: Final = "rootfs-diff.tar"
DELETED_FILES: Final = "deleted-files.json"
FORGOTTEN: Final = 86400.0
"""Seconds after which a staging directory has no owner."""
MAX_MANIFEST: Final = 16 << 20
"""Bytes; a manifest names some hundred files and some thousand threads."""
_DUMPER: Final[Any] = getattr(yaml, "CSafeDumper", yaml.SafeDumper)

Json = dict[str, Any]


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
        """A new file to write."""
        return os.open(
            name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=self.directory
        )


@contextmanager
def staging(base: int, checkpoint_id: str) -> Iterator[Staging]:
    """A fresh staging directory; removed again unless it was published.

    Raises:
        ArtifactError: where storage cannot be written.
    """
    parent = store.make_directories(base, f"{check_id(checkpoint_id)}/tmp")  # noqa: S108 - a name of ours
    name = str(uuid.uuid4())
    try:
        _sweep(parent)
        directory = store.make_directories(parent, name)
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


def publish(base: int, staged: Staging, checkpoint_id: str, version: str, manifest: Json) -> Published:
    """Complete the manifest with every file's size and sum, sync all, and give the directory its name.

    Raises:
        ArtifactError: where the name exists (artifacts are never overwritten) or storage fails.
    """
    try:
        files = _sums(staged.directory)
        whole = {"formatVersion": FORMAT_VERSION, "checkpointId": checkpoint_id, "version": version} | manifest
        text = yaml.dump(whole | {"files": files}, Dumper=_DUMPER, sort_keys=False).encode()
        _write_synced(staged, text)
        versions = store.make_directories(base, f"{check_id(checkpoint_id)}/versions")
        try:
            _rename_new(staged, versions, check_version(version))
            os.fsync(versions)
        finally:
            os.close(versions)
    except OSError as error:
        raise ArtifactError("storage-unwritable", f"checkpoint storage: {error.strerror}; is it full?") from error
    return Published(digest_of(text), sum(entry["size"] for entry in files.values()) + len(text))


def _sums(directory: int) -> dict[str, Json]:
    files: dict[str, Json] = {}
    for name in sorted(os.listdir(directory)):
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
        try:
            os.fchmod(fd, 0o600)
            os.fsync(fd)
            files[name] = {"size": os.fstat(fd).st_size, "blake3": sum_of(fd)}
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
    """A directory is renamed over nothing or an empty one, never over an artifact: those hold a manifest."""
    try:
        os.rename(staged.name, version, src_dir_fd=staged.parent, dst_dir_fd=versions)
    except OSError as error:
        if error.errno in (errno.EEXIST, errno.ENOTEMPTY):
            raise _exists(version) from error
        raise


def _exists(version: str) -> ArtifactError:
    return ArtifactError(
        "artifact-exists",
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
            store.open_beneath(
                base, f"{check_id(checkpoint_id)}/versions/{check_version(version)}/{MANIFEST}", os.O_RDONLY
            )
        )
    except ArtifactError:
        return
    raise _exists(version)


def sum_of(fd: int) -> str:
    """blake3 of a file's content, hex; all cores, the page cache mapped."""
    hasher = blake3(max_threads=blake3.AUTO)
    if os.fstat(fd).st_size:  # an empty file cannot be mapped
        hasher.update_mmap(f"/proc/self/fd/{fd}")
    return hasher.hexdigest()


def digest_of(manifest: bytes) -> str:
    """The digest that a DynamoCheckpoint keeps."""
    return f"blake3:{blake3(manifest).hexdigest()}"


@dataclass(frozen=True)
class Artifact:
    """An opened artifact whose manifest has the wanted digest."""

    directory: int
    manifest: Mapping[str, Any]
    digest: str

    @property
    def size(self) -> int:
        """Bytes of all files but the manifest."""
        return sum(int(entry["size"]) for entry in self.manifest["files"].values())

    def open(self, name: str) -> int:
        """One of its files, to read."""
        return store.open_beneath(self.directory, name, os.O_RDONLY)

    def close(self) -> None:
        """Let go of the directory."""
        os.close(self.directory)


def open_artifact(base: int, checkpoint_id: str, version: str, wanted: str | None) -> Artifact:
    """Open an artifact; with ``wanted``, only where its manifest has that digest.

    Raises:
        ArtifactError: where it is missing, is no artifact of this id and format, or has another digest.
        BadIdError: where id or version cannot be part of a path.
    """
    directory = store.open_beneath(base, f"{check_id(checkpoint_id)}/versions/{check_version(version)}")
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
            "manifest-digest", f"the artifact's manifest is {digest}, its DynamoCheckpoint names {wanted}"
        )
    return digest


def _read_manifest(directory: int) -> bytes:
    with os.fdopen(store.open_beneath(directory, MANIFEST, os.O_RDONLY), "rb") as file:
        text = file.read(MAX_MANIFEST + 1)
    if len(text) > MAX_MANIFEST:
        raise ArtifactError("manifest-unreadable", f"{MANIFEST} is larger than {MAX_MANIFEST >> 20} MiB")
    return text


def parse_manifest(text: bytes, checkpoint_id: str) -> Json:
    """The manifest of that checkpoint's artifact.

    Raises:
        ArtifactError: the text is none.
    """
    try:
        manifest = load_yaml(text)
    except yaml.YAMLError as error:
        raise ArtifactError("manifest-unreadable", f"{MANIFEST} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(manifest, dict) or manifest.get("checkpointId") != checkpoint_id:
        raise ArtifactError("manifest-unreadable", f"{MANIFEST} is not that of checkpoint {checkpoint_id}")
    if manifest.get("formatVersion") != FORMAT_VERSION:
        raise ArtifactError(
            "manifest-format",
            f"artifact format {manifest.get('formatVersion')!r} is not {FORMAT_VERSION}; capture it with this release",
        )
    if not isinstance(manifest.get("files"), dict):
        raise ArtifactError("manifest-unreadable", f"{MANIFEST} names no files")
    return manifest


def verify(artifact: Artifact) -> None:
    """Read every file once and compare size and sum with the manifest.

    Raises:
        ArtifactError: names the first file that differs.
    """
    for name, entry in artifact.manifest["files"].items():
        if "/" in name:
            raise ArtifactError("manifest-unreadable", f"{MANIFEST} names a file outside of the artifact: {name!r}")
        fd = artifact.open(name)
        try:
            if os.fstat(fd).st_size != entry["size"] or sum_of(fd) != entry["blake3"]:
                raise ArtifactError("artifact-corrupt", f"{name} is not what the manifest says; capture it again")
        finally:
            os.close(fd)
