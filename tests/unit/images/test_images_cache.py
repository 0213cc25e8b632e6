"""Build steps are kept whole or not at all, and done once for the same input."""

from pathlib import Path

import pytest

from images.cache import Cache, default_root, hash_files


def test_a_step_is_built_once_for_one_key(tmp_path: Path) -> None:
    built: list[str] = []

    def build(folder: Path) -> None:
        built.append("built")
        (folder / "file").write_text("content")

    cache = Cache(tmp_path)
    first, second = cache.entry("step", ["a"], build), cache.entry("step", ["a"], build)
    other = cache.entry("step", ["b"], build)

    assert 2 == len(built)
    assert first == second != other
    assert "content" == (first / "file").read_text()


def test_a_failed_step_leaves_nothing(tmp_path: Path) -> None:
    def build(folder: Path) -> None:
        (folder / "half").write_text("")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        Cache(tmp_path).entry("step", [], build)

    assert [] == list(tmp_path.iterdir())


def test_the_later_of_two_builders_takes_the_earlier_result(tmp_path: Path) -> None:
    cache = Cache(tmp_path)

    def slow(folder: Path) -> None:
        cache.entry("step", ["a"], lambda other: (other / "file").write_text("first") and None)
        (folder / "file").write_text("second")

    entry = cache.entry("step", ["a"], slow)

    assert "first" == (entry / "file").read_text()
    assert [entry] == list(tmp_path.iterdir())


def test_forgotten_steps_are_built_again(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    gone, kept = cache.entry("one", [], lambda _: None), cache.entry("two", [], lambda _: None)

    cache.forget("one")

    assert (False, True) == (gone.exists(), kept.exists())


@pytest.mark.parametrize(
    ("env", "expected"),
    [
        pytest.param({"DYNAMO_SNAPSHOT_CACHE": "/cache"}, Path("/cache/images"), id="variable"),
        pytest.param({}, Path.home() / ".cache/dynamo-snapshot/images", id="user-cache"),
    ],
)
def test_where_the_cache_lies(env: dict[str, str], expected: Path) -> None:
    assert expected == default_root(env)


def test_the_hash_of_files_sees_names_contents_and_modes(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_text("x")
    seen = {hash_files(tmp_path, [file])}
    file.write_text("y")
    seen.add(hash_files(tmp_path, [file]))
    file.chmod(0o755)
    seen.add(hash_files(tmp_path, [file]))
    file = file.rename(tmp_path / "b")
    seen.add(hash_files(tmp_path, [file]))

    assert 4 == len(seen)
