"""The paths by which a pod mounts emptyDirs, and where the container has them."""

import os
from pathlib import Path

import pytest

from agent.container.files.empty_dirs import is_folder, mount_points
from linux.proc import PROC, mounts

SELF = os.getpid()


@pytest.fixture
def memory() -> str:
    """A mount of this machine's that is in memory."""
    return next(m.point for m in mounts(SELF, PROC) if m.fstype == "tmpfs" and Path(m.point).is_dir())


@pytest.mark.parametrize(
    "written",
    [
        pytest.param("{memory}", id="plain"),
        pytest.param("{memory}/", id="slash-at-the-end"),
        pytest.param("{folder}/link", id="link"),
        pytest.param("{folder}/above/{name}", id="link-above"),
    ],
)
def test_in_memory(tmp_path, memory, written):
    (tmp_path / "link").symlink_to(memory)
    (tmp_path / "above").symlink_to(Path(memory).parent)
    path = written.format(memory=memory, folder=tmp_path, name=Path(memory).name)

    assert {path, memory} == mount_points(SELF, [path], mounts(SELF, PROC), PROC)


@pytest.mark.parametrize("name", [pytest.param("link", id="elsewhere"), pytest.param("nothing", id="not-there")])
def test_no_link_makes_another_volume_an_empty_dir(tmp_path, name):
    (tmp_path / "link").symlink_to("/")
    path = str(tmp_path / name)

    assert {path} == mount_points(SELF, [path], [m for m in mounts(SELF, PROC) if m.fstype != "tmpfs"], PROC)


def test_what_is_mounted(tmp_path):
    (tmp_path / "file").touch()

    assert is_folder(SELF, str(tmp_path))
    assert not is_folder(SELF, str(tmp_path / "file"))
