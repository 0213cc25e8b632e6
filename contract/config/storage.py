"""Where artifacts are stored: the volume, who mounts it, and the path of one artifact.

Ids and versions come from labels, annotations and status fields that users can write.
They are hostile until checked here, because they become part of a path.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Final

from contract.api.states import AccessMode

if TYPE_CHECKING:
    from contract.config.values import Values

MAX_ID: Final = 63
MAX_VERSION: Final = 32
_WORDS: Final = 1024
"""Ids and versions remembered: admission meets the few of its namespace again and again."""
_VOLUMES: Final = 16
"""Volumes remembered: a process has one, and each of its passes and requests asks for it."""
# A DNS label: an id is part of names of Jobs, in label values and in paths, and this fits all three.
_LABEL: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", re.ASCII)


class BadIdError(ValueError):
    """An id or version that cannot be part of a name and a path."""


class StorageError(ValueError):
    """The storage values do not fit together; ``field`` is their path in the chart's values."""

    def __init__(self, field: str, message: str) -> None:
        self.field = field
        super().__init__(f"{field}: {message}")


@dataclass(frozen=True)
class Storage:
    """The checkpoint volume as both halves see it."""

    access_mode: AccessMode
    pvc_name: str
    base_path: str
    """Absolute mount path, without a slash at its end."""
    create: bool
    """Whether the volume may be made: by the chart in agentMount, by the controller in podMount."""
    size: str
    storage_class: str
    """Empty: the cluster's default class."""
    pvc_access_mode: str

    @property
    def in_pod(self) -> bool:
        """Whether the worker's pod mounts the volume (podMount) and not the agent."""
        return self.access_mode == AccessMode.POD_MOUNT


def storage_from_values(values: Values) -> Storage:
    """Return the checkpoint volume that ``values`` describe.

    Raises:
        StorageError: where the values contradict each other.
    """
    pvc = values.storage.pvc
    mode = values.storage.access_mode
    return _volume(mode, pvc.claim_name, pvc.base_path, pvc.create, pvc.size, pvc.storage_class, pvc.access_mode)


@lru_cache(_VOLUMES)
def _volume(mode: AccessMode, *said: Any) -> Storage:  # noqa: ANN401 - Storage names them
    storage = Storage(mode, *said)
    if not {"..", "."}.isdisjoint(storage.base_path.split("/")):
        raise StorageError(
            "storage.pvc.basePath", f"{storage.base_path!r} must be a clean absolute path without . and .."
        )
    if storage.create and not re.search(r"[1-9]", storage.size):
        raise StorageError("storage.pvc.size", "must be more than zero when storage.pvc.create is true")
    return storage


def check_id(text: str) -> str:
    """Return ``text`` if it is a checkpoint id: a DNS label, so never a path.

    Raises:
        BadIdError: with what an id may look like.
    """
    return _checked("checkpoint id", text, MAX_ID)


def check_version(text: str) -> str:
    """Return ``text`` if it is an artifact version: as an id, at most 32 characters.

    Raises:
        BadIdError: with what a version may look like.
    """
    return _checked("artifact version", text, MAX_VERSION)


@lru_cache(_WORDS)  # of what passes: an error is not remembered
def _checked(what: str, text: str, longest: int) -> str:
    if len(text) <= longest and _LABEL.fullmatch(text):
        return text
    shown = text if len(text) <= longest else text[:longest] + "..."
    raise BadIdError(
        f"{what} {shown!r}: must be 1 to {longest} lower-case letters, digits and hyphens, "
        "beginning and ending with a letter or digit"
    )


def artifact_dir(base_path: str | PurePosixPath, checkpoint_id: str, version: str) -> PurePosixPath:
    """Return ``<base>/<id>/versions/<version>``.

    Raises:
        BadIdError: where id or version is not one.
    """
    return PurePosixPath(artifact_path(str(base_path), checkpoint_id, version))


def artifact_path(base_path: str, checkpoint_id: str, version: str) -> str:
    """Return the same as text: a path object costs ten times as much, and admission has no use for it.

    Raises:
        BadIdError: where id or version is not one.
    """
    return f"{base_path.rstrip('/')}/{check_id(checkpoint_id)}/versions/{check_version(version)}"
