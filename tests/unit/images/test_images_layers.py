"""Layers are the same bytes for the same content, on any machine and for any user."""

import tarfile
from pathlib import Path

import pytest

from images import layers


def _tree(root: Path, *, order: list[str]) -> Path:
    for name in order:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    (root / "link").symlink_to("a/one")
    return root


def test_same_content_gives_same_digest_whatever_order_time_and_umask(tmp_path: Path) -> None:
    names = ["a/one", "a/two", "b"]
    first = _tree(tmp_path / "first", order=names)
    second = _tree(tmp_path / "second", order=names[::-1])
    (second / "b").chmod(0o600)
    (second / "a").chmod(0o700)

    one, two = layers.pack(first, tmp_path / "1.tar"), layers.pack(second, tmp_path / "2.tar")

    assert one.diff_id == two.diff_id
    assert (tmp_path / "1.tar").read_bytes() == (tmp_path / "2.tar").read_bytes()


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        pytest.param(0o600, 0o644, id="private-file"),
        pytest.param(0o750, 0o755, id="program"),
        pytest.param(0o4755, 0o755, id="setuid-is-dropped"),
    ],
)
def test_modes_are_plain(tmp_path: Path, mode: int, expected: int) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "root/file").write_text("")
    (tmp_path / "root/file").chmod(mode)

    layers.pack(tmp_path / "root", tmp_path / "layer.tar")

    with tarfile.open(tmp_path / "layer.tar") as tar:
        entry = tar.getmember("file")
    assert (expected, 0, 0, layers.EPOCH) == (entry.mode, entry.uid, entry.gid, entry.mtime)


def test_world_writable_folders_stay_sticky(tmp_path: Path) -> None:
    (tmp_path / "root/tmp").mkdir(parents=True)
    (tmp_path / "root/tmp").chmod(0o1777)

    layers.pack(tmp_path / "root", tmp_path / "layer.tar")

    with tarfile.open(tmp_path / "layer.tar") as tar:
        assert 0o1777 == tar.getmember("tmp").mode


def test_links_are_kept_as_links(tmp_path: Path) -> None:
    root = _tree(tmp_path / "root", order=["a/one"])

    layers.pack(root, tmp_path / "layer.tar")

    with tarfile.open(tmp_path / "layer.tar") as tar:
        assert "a/one" == tar.getmember("link").linkname
        assert ["a", "a/one", "link"] == tar.getnames()
