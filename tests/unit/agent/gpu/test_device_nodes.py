"""An agent whose container was made before the driver was loaded, or apart from it, gets the driver's device nodes."""

import os
import stat
from pathlib import Path

import pytest

from agent.gpu.device_nodes import bring_device_nodes, other_nodes
from agent.gpu.libraries import device_roots

CONTROL, FIRST, UVM = os.makedev(195, 255), os.makedev(195, 0), os.makedev(510, 0)


@pytest.mark.parametrize(
    ("here", "names"),
    [
        pytest.param({}, ["nvidia-uvm", "nvidia0", "nvidiactl"], id="none"),
        pytest.param({"nvidiactl": CONTROL, "nvidia0": FIRST}, ["nvidia-uvm"], id="loaded-later"),
        pytest.param(
            {"nvidiactl": CONTROL, "nvidia0": FIRST, "nvidia-uvm": os.makedev(509, 0)},
            ["nvidia-uvm"],
            id="another-number",
        ),
        pytest.param({"nvidiactl": CONTROL, "nvidia0": FIRST, "nvidia-uvm": UVM, "nvidia1": 1}, [], id="all"),
    ],
)
def test_what_is_missing_or_of_another_number_is_made(here, names):
    assert names == other_nodes({"nvidiactl": CONTROL, "nvidia0": FIRST, "nvidia-uvm": UVM}, here)


def test_whose_nodes_they_are():
    node = Path("/proc/1/root")
    assert [node / "run/nvidia/driver", node / "home/kubernetes/bin/nvidia", node, node] == device_roots(node)
    assert [node / "opt/driver", node] == device_roots(node, "/opt/driver")


def make(dev: Path, **nodes: int) -> None:
    dev.mkdir(parents=True)
    for name, number in nodes.items():
        os.mknod(dev / name, stat.S_IFCHR | 0o600, number)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: device nodes")
def test_the_first_root_with_a_drivers_nodes_is_taken(tmp_path):
    make(tmp_path / "first/dev", null=os.makedev(1, 3))
    make(tmp_path / "second/dev", nvidiactl=CONTROL, nvidia0=FIRST)
    make(tmp_path / "second/dev/nvidia-caps", **{"nvidia-cap1": os.makedev(236, 1)})
    (tmp_path / "second/dev/nvidia-folder").mkdir()
    make(tmp_path / "third/dev", nvidiactl=CONTROL, nvidia7=os.makedev(195, 7))
    make(tmp_path / "own", nvidia0=os.makedev(195, 9))

    roots = [tmp_path / name for name in ("none", "first", "second", "third")]
    assert ["nvidia-caps/nvidia-cap1", "nvidia0", "nvidiactl"] == bring_device_nodes(roots, tmp_path / "own")
    found = (tmp_path / "own/nvidia0").stat()
    assert (FIRST, stat.S_IFCHR | 0o666) == (found.st_rdev, found.st_mode)
    assert [] == bring_device_nodes(roots, tmp_path / "own")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: device nodes")
def test_a_node_that_cannot_be_made_is_no_end(tmp_path, caplog):
    make(tmp_path / "dev", nvidiactl=CONTROL, nvidia0=FIRST)
    (tmp_path / "own/nvidiactl").mkdir(parents=True)

    assert ["nvidia0"] == bring_device_nodes([tmp_path], tmp_path / "own")
    assert "nvidiactl could not be made" in caplog.text
