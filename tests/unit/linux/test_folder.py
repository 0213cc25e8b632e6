"""What is known of a folder itself comes back, and an equal one is not touched."""

import os

import pytest

from linux import folder


@pytest.fixture
def opened(tmp_path):
    fd = os.open(tmp_path, os.O_PATH | os.O_DIRECTORY)
    yield fd
    os.close(fd)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: owners")
def test_it_is_dressed_as_another_was(opened, tmp_path):
    os.chown(tmp_path, 12, 34)
    tmp_path.chmod(0o2750)
    was = folder.describe(opened)
    os.chown(tmp_path, 0, 0)
    tmp_path.chmod(0o755)
    folder.dress(opened, was)
    assert (0o2750, 12, 34) == (was["mode"], was["uid"], was["gid"])
    assert was == folder.describe(opened)


def test_an_equal_one_is_not_touched(opened, tmp_path):
    """Which keeps a read-only file system from being an obstacle."""
    before = tmp_path.stat().st_ctime_ns
    folder.dress(opened, folder.describe(opened))
    assert before == tmp_path.stat().st_ctime_ns
