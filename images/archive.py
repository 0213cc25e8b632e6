"""Image archives: writes docker-archives, reads docker-archives and OCI archives.

The docker-archive is written because every loader reads it and completes short names by itself, so that no registry
has to be named here.
"""

import hashlib
import json
import os
import shutil
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import IO, Any, Final

from images.errors import ArchiveError
from images.layers import EPOCH, Layer

ARCHITECTURE: Final = "amd64"
_MAX_JSON: Final = 16 << 20  # a manifest or a configuration is a few kB; the bound keeps a wrong file out of memory


@dataclass(frozen=True)
class Image:
    """An image: its configuration as in the OCI image spec, and its layers, lowest first."""

    config: Mapping[str, Any]
    layers: tuple[Layer, ...]

    @property
    def runtime(self) -> Mapping[str, Any]:
        """The part that containers get: Entrypoint, Cmd, Env, User, WorkingDir, Labels."""
        found: Mapping[str, Any] = self.config.get("config") or {}
        return found


def image(runtime: Mapping[str, Any], layers: tuple[Layer, ...]) -> Image:
    """Build an image from layers and what its containers get."""
    return Image(
        {
            "architecture": ARCHITECTURE,
            "os": "linux",
            "config": dict(runtime),
            "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]},
        },
        layers,
    )


def append(base: Image, layer: Layer) -> Image:
    """Return the base with one more layer; everything else stays as it is."""
    rootfs = base.config["rootfs"]
    config = {**base.config, "rootfs": {**rootfs, "diff_ids": [*rootfs["diff_ids"], layer.diff_id]}}
    if history := base.config.get("history"):
        config["history"] = [*history, {"created_by": "snapshot-standby"}]
    return Image(config, (*base.layers, layer))


def write(built: Image, name: str, target: Path) -> str:
    """Write an image as a docker-archive and return its id (``sha256:<hex>`` of the configuration).

    The file appears by rename: a reader never sees half of it.
    """
    config = json.dumps(built.config, sort_keys=True, separators=(",", ":")).encode()
    digest = hashlib.sha256(config).hexdigest()
    names = [f"{number:03d}-{layer.diff_id.removeprefix('sha256:')}.tar" for number, layer in enumerate(built.layers)]
    manifest = [{"Config": f"{digest}.json", "RepoTags": [name], "Layers": names}]
    with _published(target) as staged, tarfile.open(staged, "w", format=tarfile.PAX_FORMAT) as tar:
        _put(tar, "manifest.json", BytesIO(json.dumps(manifest).encode()))
        _put(tar, f"{digest}.json", BytesIO(config))
        for member, layer in zip(names, built.layers, strict=True):
            with layer.path.open("rb") as blob:
                _put(tar, member, blob)
    return f"sha256:{digest}"


def read(path: Path, scratch: Path) -> Image:
    """Read an image archive; its layers are unpacked as files into ``scratch``.

    Raises:
        ArchiveError: If the file is not an archive of exactly one image for this architecture.
    """
    try:
        with tarfile.open(path) as tar:
            known = set(tar.getnames())
            if "manifest.json" in known:
                return _read_docker(tar, scratch)
            if "index.json" in known:
                return _read_oci(tar, scratch)
    except (tarfile.TarError, OSError, KeyError, IndexError, TypeError, ValueError) as e:
        raise ArchiveError(f"{path}: cannot be read as an image archive ({e}); write one with `docker save`") from e
    raise ArchiveError(f"{path}: neither a docker-archive nor an OCI archive; write one with `docker save IMAGE`")


def _read_docker(tar: tarfile.TarFile, scratch: Path) -> Image:
    manifests = _json(tar, "manifest.json")
    if len(manifests) != 1:
        raise ArchiveError(f"the archive holds {len(manifests)} images; save exactly one")
    members = manifests[0]["Layers"]
    return _assemble(tar, _json(tar, manifests[0]["Config"]), members, scratch)


def _read_oci(tar: tarfile.TarFile, scratch: Path) -> Image:
    document = _json(tar, "index.json")
    while "manifests" in document:
        document = _json(tar, _blob(_choose(document["manifests"])["digest"]))
    config = _json(tar, _blob(document["config"]["digest"]))
    return _assemble(tar, config, [_blob(layer["digest"]) for layer in document["layers"]], scratch)


def _choose(manifests: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the only manifest, or the only one for our architecture (that of attestations is ``unknown``)."""
    fitting = [m for m in manifests if (m.get("platform") or {}).get("architecture", ARCHITECTURE) == ARCHITECTURE]
    if len(fitting) != 1:
        raise ArchiveError(f"the archive holds {len(fitting)} images for {ARCHITECTURE}; save exactly one")
    return fitting[0]


def _assemble(tar: tarfile.TarFile, config: dict[str, Any], members: list[str], scratch: Path) -> Image:
    diff_ids = config["rootfs"]["diff_ids"]
    if len(diff_ids) != len(members):
        raise ArchiveError(f"the configuration names {len(diff_ids)} layers, the manifest {len(members)}")
    layers = []
    for number, (member, diff_id) in enumerate(zip(members, diff_ids, strict=True)):
        target = scratch / f"layer-{number}"
        with _open(tar, member) as source, target.open("wb") as file:
            shutil.copyfileobj(source, file, 1 << 20)
        layers.append(Layer(target, diff_id))
    return Image(config, tuple(layers))


def _blob(digest: str) -> str:
    return "blobs/" + digest.replace(":", "/")


def _json(tar: tarfile.TarFile, member: str) -> Any:  # noqa: ANN401 - JSON of a foreign file
    with _open(tar, member) as file:
        return json.loads(file.read(_MAX_JSON))


def _open(tar: tarfile.TarFile, member: str) -> IO[bytes]:
    found = tar.extractfile(member)
    if found is None:
        raise ArchiveError(f"the archive lacks the file {member}")
    return found


def _put(tar: tarfile.TarFile, name: str, source: IO[bytes]) -> None:
    info = tarfile.TarInfo(name)
    info.mtime, info.mode = EPOCH, 0o644
    info.size = source.seek(0, os.SEEK_END)
    source.seek(0)
    tar.addfile(info, source)


@contextmanager
def _published(target: Path) -> Iterator[Path]:
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    os.close(handle)
    staged = Path(name)
    try:
        yield staged
        staged.chmod(0o644)
        staged.replace(target)
    finally:
        staged.unlink(missing_ok=True)
