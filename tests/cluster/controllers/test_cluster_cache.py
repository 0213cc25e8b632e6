"""Nothing half-made is ever taken for whole."""

import os
import time
from pathlib import Path

import pytest

from cluster.builder import cache
from cluster.builder.cache import Cache
from cluster.errors import StateError
from cluster.processes import exclusive, held


def fill(folder: Path) -> None:
    (folder / "program").write_bytes(b"12345")
    (folder / "alias").symlink_to("program")


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def test_a_folder_is_published_with_all_its_files(tmp_path: Path) -> None:
    target = cache.publish(tmp_path / "part", fill)

    assert cache.is_whole(target)
    assert ["part"] == names(tmp_path)


def test_a_failed_work_leaves_nothing(tmp_path: Path) -> None:
    def fails(folder: Path) -> None:
        fill(folder)
        raise RuntimeError

    with pytest.raises(RuntimeError):
        cache.publish(tmp_path / "part", fails)

    assert [] == names(tmp_path)


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda folder: (folder / "program").write_bytes(b"123"), id="cut"),
        pytest.param(lambda folder: (folder / "program").unlink(), id="gone"),
        pytest.param(lambda folder: (folder / cache.MANIFEST).unlink(), id="no-manifest"),
        pytest.param(lambda folder: (folder / cache.MANIFEST).write_text("{"), id="half-a-manifest"),
    ],
)
def test_a_damaged_folder_is_made_again(tmp_path: Path, damage) -> None:
    target = cache.publish(tmp_path / "part", fill)
    damage(target)

    assert not cache.is_whole(target)
    cache.publish(target, fill)
    assert b"12345" == (target / "program").read_bytes()
    assert ["part"] == names(tmp_path)


def test_what_a_killed_build_left_is_removed_after_a_day(tmp_path: Path) -> None:
    old, young = tmp_path / ".part-aaaa", tmp_path / ".part-bbbb"
    for folder in (old, young):
        folder.mkdir()
    os.utime(old, (0, time.time() - cache.STALE_SECONDS - 1))

    cache.publish(tmp_path / "part", fill)

    assert [".part-bbbb", "part"] == names(tmp_path)


@pytest.mark.parametrize("name", ["", "../x", "Upper", "a/b", "-a", "a" * 33, "a b"])
def test_hostile_cluster_names_are_refused(name: str) -> None:
    with pytest.raises(StateError, match="is no name for a cluster"):
        Cache(Path("/nowhere")).cluster(name)


def test_a_lock_excludes_and_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "lock"

    with exclusive(path, "it"):
        assert held(path)
        with pytest.raises(StateError, match="starting or stopping it"), exclusive(path, "it", seconds=0):
            pass

    assert not path.exists()
    assert not held(path)
