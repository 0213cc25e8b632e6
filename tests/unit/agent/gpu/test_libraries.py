"""The driver's library is found in a mounted folder of the node, whatever its layout, else left to the loader."""

import pytest

from agent.gpu.libraries import FOLDERS, find_library


@pytest.mark.parametrize("folder", FOLDERS)
def test_below_the_root(tmp_path, folder):
    (tmp_path / folder).mkdir(parents=True, exist_ok=True)
    (tmp_path / folder / "libcuda.so.1").touch()
    assert str(tmp_path / folder / "libcuda.so.1") == find_library(tmp_path)


def test_nowhere(tmp_path):
    assert "libcuda.so.1" == find_library(tmp_path / "driver")
