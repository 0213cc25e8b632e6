"""Image archives are written so that loaders take them, and read however an engine saved them."""

import hashlib
import json
import tarfile
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from images import archive, layers
from images.archive import Image
from images.errors import ArchiveError


def _layer(folder: Path, name: str) -> layers.Layer:
    root = folder / f"root-{name}"
    root.mkdir(parents=True)
    (root / name).write_text(name)
    return layers.pack(root, folder / f"{name}.tar")


def _save(target: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(target, "w") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, BytesIO(data))
    return target


def _oci(folder: Path, platforms: list[dict[str, str]]) -> Path:
    """Write an OCI archive of one layer, a manifest for each platform, behind a nested index as buildkit does."""
    files: dict[str, bytes] = {}

    def blob(content: bytes) -> dict[str, Any]:
        digest = hashlib.sha256(content).hexdigest()
        files[f"blobs/sha256/{digest}"] = content
        return {"digest": f"sha256:{digest}", "size": len(content)}

    layer = _layer(folder, "base")
    config = {"config": {"Entrypoint": ["/serve"]}, "rootfs": {"type": "layers", "diff_ids": [layer.diff_id]}}
    manifest = {"config": blob(json.dumps(config).encode()), "layers": [blob(layer.path.read_bytes())]}
    entries = [{**blob(json.dumps(manifest).encode()), "platform": platform} for platform in platforms]
    index = blob(json.dumps({"manifests": entries}).encode())
    files["index.json"] = json.dumps({"manifests": [index]}).encode()
    return _save(folder / "oci.tar", files)


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    built = archive.image({"Entrypoint": ["/serve"], "User": "7"}, (_layer(tmp_path, "a"), _layer(tmp_path, "b")))

    archive.write(built, "some/image:1", tmp_path / "image.tar")
    (tmp_path / "scratch").mkdir()
    again = archive.read(tmp_path / "image.tar", tmp_path / "scratch")

    assert built.config == again.config
    assert [layer.diff_id for layer in built.layers] == [layers.sha256_file(layer.path) for layer in again.layers]


def test_writing_is_reproducible_and_named(tmp_path: Path) -> None:
    built = archive.image({}, (_layer(tmp_path, "a"),))

    first = archive.write(built, "some/image:1", tmp_path / "1.tar")
    second = archive.write(built, "some/image:1", tmp_path / "2.tar")

    assert first == second
    assert (tmp_path / "1.tar").read_bytes() == (tmp_path / "2.tar").read_bytes()
    with tarfile.open(tmp_path / "1.tar") as tar:
        manifest = json.load(tar.extractfile("manifest.json") or BytesIO())
    assert [["some/image:1"]] == [entry["RepoTags"] for entry in manifest]


def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    lost = layers.Layer(tmp_path / "lost.tar", "sha256:00")

    with pytest.raises(FileNotFoundError):
        archive.write(Image({"rootfs": {}}, (lost,)), "some/image:1", tmp_path / "out" / "image.tar")

    assert [] == list((tmp_path / "out").iterdir())


@pytest.mark.parametrize(
    "platforms",
    [
        pytest.param([{"architecture": "amd64"}], id="single"),
        pytest.param([{"architecture": "arm64"}, {"architecture": "amd64"}], id="two-architectures"),
        pytest.param([{"architecture": "amd64"}, {"architecture": "unknown"}], id="with-attestation"),
    ],
)
def test_oci_archives_are_read(tmp_path: Path, platforms: list[dict[str, str]]) -> None:
    path = _oci(tmp_path, platforms)

    image = archive.read(path, tmp_path)

    assert ["/serve"] == image.runtime["Entrypoint"]
    assert [layers.sha256_file(layer.path) for layer in image.layers] == [layer.diff_id for layer in image.layers]


def test_appending_keeps_everything_else(tmp_path: Path) -> None:
    config = {
        "architecture": "amd64",
        "config": {"Env": ["A=b"], "Labels": {"x": "y"}, "User": "1000", "WorkingDir": "/w"},
        "history": [{"created_by": "somebody"}],
        "rootfs": {"type": "layers", "diff_ids": ["sha256:1"]},
    }

    image = archive.append(Image(config, ()), layers.Layer(tmp_path, "sha256:2"))

    assert config["config"] == image.runtime
    assert ["sha256:1", "sha256:2"] == image.config["rootfs"]["diff_ids"]
    assert 2 == len(image.config["history"])


@pytest.mark.parametrize(
    ("files", "words"),
    [
        pytest.param({"other": b""}, "neither a docker-archive nor an OCI archive", id="some-tar"),
        pytest.param({"manifest.json": b"{"}, "cannot be read", id="broken-json"),
        pytest.param({"manifest.json": b"[]"}, "holds 0 images", id="no-image"),
        pytest.param({"manifest.json": b"[{}, {}]"}, "holds 2 images", id="two-images"),
        pytest.param({"manifest.json": b'[{"Layers": [], "Config": "gone.json"}]'}, "cannot be read", id="no-config"),
        pytest.param(
            {"manifest.json": b'[{"Layers": ["a"], "Config": "c"}]', "c": b'{"rootfs": {"diff_ids": []}}'},
            "names 0 layers, the manifest 1",
            id="layers-disagree",
        ),
        pytest.param({"index.json": b'{"manifests": []}'}, "0 images for amd64", id="empty-index"),
    ],
)
def test_bad_archives_are_refused(tmp_path: Path, files: dict[str, bytes], words: str) -> None:
    path = _save(tmp_path / "bad.tar", files)

    with pytest.raises(ArchiveError, match=words):
        archive.read(path, tmp_path)


def test_what_is_no_archive_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("hello")

    with pytest.raises(ArchiveError, match="docker save"):
        archive.read(tmp_path / "text", tmp_path)
