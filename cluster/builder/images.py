"""Images for nodes that pull nothing: the pods' first process, and archives that are loaded by hand."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping
from typing import Any

from cluster.config import PAUSE_IMAGE

_OCI = "application/vnd.oci.image"


Files = Mapping[str, tuple[bytes, int]]
"""Path in the archive -> (content, mode)."""


def pause_archive(program: bytes, architecture: str, name: str = PAUSE_IMAGE) -> bytes:
    """Return the image of the pods' first process, from the static *program*. Pure."""
    return archive({"pause": (program, 0o755)}, name, architecture, {"Entrypoint": ["/pause"], "User": "65535:65535"})


def archive(files: Files, name: str, architecture: str, run: Mapping[str, Any]) -> bytes:
    """Return an OCI archive with one layer that holds *files*, and *run* as the image's settings.

    Pure, and the same bytes every time.
    """
    layer = _tar(files)
    config = _json(
        {
            "architecture": architecture,
            "os": "linux",
            "config": dict(run),
            "rootfs": {"type": "layers", "diff_ids": [_digest(layer)]},
        }
    )
    manifest = _json(
        {
            "schemaVersion": 2,
            "mediaType": f"{_OCI}.manifest.v1+json",
            "config": _descriptor(config, f"{_OCI}.config.v1+json"),
            "layers": [_descriptor(layer, f"{_OCI}.layer.v1.tar")],
        }
    )
    entry = _descriptor(manifest, f"{_OCI}.manifest.v1+json") | {"annotations": {"io.containerd.image.name": name}}
    index = _json({"schemaVersion": 2, "mediaType": f"{_OCI}.index.v1+json", "manifests": [entry]})
    blobs = {f"blobs/sha256/{hashlib.sha256(data).hexdigest()}": (data, 0o644) for data in (layer, config, manifest)}
    layout = _json({"imageLayoutVersion": "1.0.0"})
    return _tar({"oci-layout": (layout, 0o644), "index.json": (index, 0o644), **blobs})


def architecture(machine: str) -> str:
    """Return the images' word for what the kernel calls *machine*. Pure."""
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine)


def _descriptor(data: bytes, media_type: str) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": _digest(data), "size": len(data)}


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _json(value: dict[str, Any]) -> bytes:
    return json.dumps(value, sort_keys=True).encode()


def _tar(files: Files) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, (data, mode) in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(data), mode
            tar.addfile(member, io.BytesIO(data))
    return buffer.getvalue()
