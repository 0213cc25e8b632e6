"""The driver's library is found in the agent or on the node, whatever its layout, else left to the loader."""

from pathlib import Path

import pytest

from agent.gpu.libraries import FOLDERS, NODE_ROOTS, driver_roots, find_library


def install(root: Path, folder: str) -> str:
    (root / folder).mkdir(parents=True, exist_ok=True)
    (root / folder / "libcuda.so.1").touch()
    return str(root / folder / "libcuda.so.1")


@pytest.mark.parametrize("folder", FOLDERS)
def test_below_a_root(tmp_path, folder):
    assert install(tmp_path, folder) == find_library([tmp_path / "other", tmp_path])


@pytest.mark.parametrize("root", NODE_ROOTS)
def test_on_the_node(tmp_path, root):
    expected = install(tmp_path / root, "lib64")
    assert expected == find_library(driver_roots(tmp_path)[1:])


def test_the_first_root_wins(tmp_path):
    expected = install(tmp_path / "own", "lib64")
    install(tmp_path / "node", "usr/lib64")
    assert expected == find_library([tmp_path / "own", tmp_path / "node"])


def test_a_named_folder_is_the_only_one_of_the_node(tmp_path):
    install(tmp_path / "run/nvidia/driver", "lib64")
    assert [Path("/"), tmp_path / "opt/driver"] == driver_roots(tmp_path, "/opt/driver")


def test_nowhere(tmp_path):
    assert "libcuda.so.1" == find_library([tmp_path])


def test_links_of_the_node_lead_to_the_nodes_own_files(tmp_path):
    """As Debian's package has it: a link to /etc/alternatives, and from there to a folder of the driver."""
    folder = FOLDERS[0]
    expected = install(tmp_path, f"{folder}/nvidia/current")
    (tmp_path / "etc/alternatives").mkdir(parents=True)
    (tmp_path / "etc/alternatives/cuda").symlink_to(f"/{folder}/nvidia/current/libcuda.so.1")
    (tmp_path / folder / "libcuda.so.1").symlink_to("/etc/alternatives/cuda")
    assert expected == find_library([tmp_path])


def test_a_link_to_nowhere_is_no_library(tmp_path):
    (tmp_path / "lib64").mkdir()
    (tmp_path / "lib64/libcuda.so.1").symlink_to("/opt/driver/libcuda.so.1")
    assert "libcuda.so.1" == find_library([tmp_path])
