"""The manifest: names every file of an artifact with size and checksum, and says what was captured, and where."""

from typing import Any, Final

import yaml

from artifact.errors import ArtifactError
from contract.config.yaml import load_yaml

FORMAT_VERSION: Final = 1
MANIFEST: Final = "manifest.yaml"
ROOTFS_TAR: Final = "rootfs-diff.tar"
DELETED_FILES: Final = "deleted-files.json"
MAX_MANIFEST: Final = 16 << 20
"""Bytes; a manifest names some hundred files and some thousand threads."""

Json = dict[str, Any]


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
