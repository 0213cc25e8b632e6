"""What an image says about its containers, from the runtime's own store on the node: no runtime API.

The store is where the container's root file system comes from: containerd's content, or the containers/storage folder
of CRI-O. Both keep documents by their digests, which are checked.
"""

import base64
import hashlib
import json
import platform
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from agent.errors import ContainerError
from contract.api.reports import ImageConfig
from contract.api.states import AgentReason
from contract.pods.systems import architecture_of
from linux.proc import Mount

DEFAULT_ROOTS: Final = ("/var/lib/containerd", "/var/lib/containers/storage")
BLOBS: Final = "io.containerd.content.v1.content/blobs/sha256"
IMAGES: Final = "overlay-images"
"""Of containers/storage; ``images.json`` there names each image's documents."""
MAX_BLOB: Final = 4 << 20
"""Bytes; manifests and configurations have some kB."""
MAX_IMAGES: Final = 64 << 20
"""Bytes of ``images.json``: some kB for each image of the node."""
MAX_WORDS: Final = 32 << 10
"""Bytes of entrypoint and cmd together: they travel in an annotation."""
_DIGEST: Final = re.compile(r"(?:^|@)(?:sha256:)?([0-9a-f]{64})$", re.ASCII)
_ID: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)
_PLAIN: Final = re.compile(r"[A-Za-z0-9.]+", re.ASCII)
_LAYERS: Final = ("/io.containerd.snapshotter.", "/overlay/")

Json = dict[str, Any]


def roots(mounts: Sequence[Mount]) -> tuple[str, ...]:
    """Return where the runtime may keep its documents: beside the container's layers, else in the usual folders."""
    root = next((mount for mount in reversed(mounts) if mount.point == "/"), None)
    upper = (root.option("upperdir") if root else None) or ""
    beside = [upper.partition(layers)[0] for layers in _LAYERS if layers in upper]
    return tuple(dict.fromkeys([*beside[:1], *DEFAULT_ROOTS]))


def read_config(image_id: str, folders: Iterable[Path]) -> ImageConfig:
    """Return the configuration of an image.

    Args:
        image_id: as the container's status has it: ends in the digest of an index, a manifest or a configuration.
        folders: where the runtime may keep its content.

    Raises:
        ContainerError: it cannot be read.
    """
    named = _DIGEST.search(image_id)
    if named is None:
        raise _unreadable(f"the image id {image_id!r} holds no digest")
    try:
        return _config(_document(named[1], list(folders)))
    except (AttributeError, KeyError, TypeError, UnicodeError) as error:
        raise _unreadable("a document of it is not of its form") from error


def _document(digest: str, places: list[Path]) -> Json:
    """Read the configuration that a digest leads to."""
    document = _blob(digest, places)
    for _ in range(2):  # an index, then a manifest
        if "rootfs" not in document:
            document = _blob(_next(document), places)
    return document


def _next(document: Json) -> str:
    """Return the digest that an index or a manifest leads to."""
    architecture = architecture_of(platform.machine())
    choices: list[Json] = [document["config"]] if "config" in document else document.get("manifests", [])
    for choice in choices:
        fitting = (choice.get("platform") or {}).get("architecture", architecture) == architecture
        if fitting and (found := _DIGEST.search(str(choice.get("digest")))):
            return found[1]
    raise _unreadable(f"it has no manifest for {architecture}")


def _blob(digest: str, folders: Iterable[Path]) -> Json:
    for path in (path for folder in folders for path in _files(folder, digest)):
        try:
            with path.open("rb") as file:
                content = file.read(MAX_BLOB)
        except OSError:
            continue
        if hashlib.sha256(content).hexdigest() != digest:
            raise _unreadable(f"document sha256:{digest} in the runtime's store is not what its name says")
        return _parsed(content)
    raise _unreadable(f"document sha256:{digest} is not in the runtime's store")


def _files(folder: Path, digest: str) -> Iterator[Path]:
    """Return where a store may keep a document."""
    yield folder / BLOBS / digest
    with suppress(OSError, ValueError, AttributeError, TypeError):
        with (folder / IMAGES / "images.json").open("rb") as file:
            known = json.loads(file.read(MAX_IMAGES))
        for image in known:
            for name, found in image["big-data-digests"].items():
                if found == f"sha256:{digest}" and _ID.fullmatch(image["id"]):
                    yield folder / IMAGES / image["id"] / _file_name(name)


def _file_name(name: str) -> str:
    """Return the name that containers/storage gives to the file of a document."""
    return name if _PLAIN.fullmatch(name) else "=" + base64.b64encode(name.encode()).decode()


def _parsed(content: bytes) -> Json:
    try:
        found = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise _unreadable(f"its configuration is no JSON: {error}") from error
    if not isinstance(found, dict):
        raise _unreadable("its configuration is no object")
    return found


def _config(document: Json) -> ImageConfig:
    said = document.get("config") or {}
    entrypoint, cmd = (tuple(str(word) for word in said.get(key) or ()) for key in ("Entrypoint", "Cmd"))
    if sum(len(word.encode()) + 1 for word in (*entrypoint, *cmd)) > MAX_WORDS or any(
        "\0" in word for word in (*entrypoint, *cmd)
    ):
        raise _unreadable("its entrypoint and cmd are too long, or hold a NUL")
    user, folder = (str(said.get(key) or "") for key in ("User", "WorkingDir"))
    (user + folder).encode()
    return ImageConfig(entrypoint, cmd, user, folder)


def _unreadable(why: str) -> ContainerError:
    return ContainerError(
        AgentReason.IMAGE_UNREADABLE, f"cannot find out what the container's image runs: {why}; give the pod a command"
    )
