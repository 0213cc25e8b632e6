"""Removing an artifact: all of it, nothing else."""

import pytest

from artifact.remove import main, remove
from contract.config.storage import BadIdError


def artifact(base, name="abc"):
    folder = base / name / "versions" / "1"
    folder.mkdir(parents=True)
    (folder / "manifest.yaml").write_text("x")
    return base / name


def test_removes_all_versions_and_leaves_the_neighbours(tmp_path):
    gone, kept = artifact(tmp_path), artifact(tmp_path, "neighbour")

    assert remove(tmp_path, "abc")
    assert (False, True) == (gone.exists(), (kept / "versions/1/manifest.yaml").exists())


def test_what_is_not_there_is_removed_already(tmp_path):
    assert not remove(tmp_path, "abc")


@pytest.mark.parametrize(
    "name", [pytest.param("..", id="parent"), pytest.param("a/b", id="path"), pytest.param("", id="empty")]
)
def test_a_hostile_id_is_refused(tmp_path, name):
    artifact(tmp_path)
    with pytest.raises(BadIdError):
        remove(tmp_path, name)

    assert (tmp_path / "abc").exists()


def test_one_version_goes_alone(tmp_path):
    whole = artifact(tmp_path)
    (whole / "versions" / "2").mkdir()

    assert [True, False] == [remove(tmp_path, "abc", "2"), remove(tmp_path, "abc", "2")]
    assert (whole / "versions/1/manifest.yaml").exists()


@pytest.mark.parametrize("version", [pytest.param("..", id="parent"), pytest.param("1/x", id="path")])
def test_a_hostile_version_is_refused(tmp_path, version):
    artifact(tmp_path)
    with pytest.raises(BadIdError):
        remove(tmp_path, "abc", version)


def test_no_link_on_the_way_to_a_version_is_followed(tmp_path):
    """Where workers mount the volume they can write there: another checkpoint's versions must stay."""
    other = artifact(tmp_path, "other")
    (tmp_path / "abc").mkdir()
    (tmp_path / "abc" / "versions").symlink_to("../other/versions")
    (tmp_path / "linked").symlink_to("other")

    assert [1, 1] == [main([str(tmp_path), name, "1"]) for name in ("abc", "linked")]
    assert (other / "versions/1/manifest.yaml").exists()


def test_links_are_not_followed(tmp_path):
    outside = artifact(tmp_path / "outside")
    base = tmp_path / "base"
    (artifact(base) / "link").symlink_to(outside)
    (base / "as-link").symlink_to(outside)

    assert remove(base, "abc")
    assert 1 == main([str(base), "as-link"])
    assert (outside / "versions/1/manifest.yaml").exists()


def test_exit_codes(tmp_path, capsys):
    artifact(tmp_path)

    assert [0, 0, 1, 2] == [
        main([str(tmp_path), "abc"]),
        main([str(tmp_path), "abc"]),
        main([str(tmp_path), "../x"]),
        main([]),
    ]
    assert [0, 2] == [main([str(tmp_path), "abc", "1"]), main([str(tmp_path), "abc", ""])]
    nothing = f"nothing there: {tmp_path}/abc"
    assert f"removed {tmp_path}/abc\n{nothing}\n{nothing}/versions/1\n" == capsys.readouterr().out
