"""NVIDIA's container toolkit, built from its own sources: what puts GPUs and driver into containers."""

import os
import shutil
from functools import cache
from pathlib import Path

import pytest

from cluster.api import for_terminal
from cluster.builder import go, toolchain
from cluster.builder.cache import Cache
from cluster.nodes.node import Node
from cluster.processes import run

SOURCES = Path(__file__).with_name("toolkit")
MODULE = "github.com/NVIDIA/nvidia-container-toolkit/cmd"
PROGRAMS = ("nvidia-ctk", "nvidia-cdi-hook", "nvidia-container-runtime")
FOLDER = "/usr/bin"
"""Of the node, where a package of the toolkit puts them."""
RUNTIME = "nvidia"
"""Of containerd, as the GPU Operator calls it; a RuntimeClass leads to it."""
_CONTAINERD = f"""
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.{RUNTIME}]
  runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.{RUNTIME}.options]
  BinaryName = "{FOLDER}/nvidia-container-runtime"
"""
_SETTINGS = """
[nvidia-container-runtime]
mode = "cdi"
runtimes = ["runc"]

[nvidia-container-runtime.modes.cdi]
default-kind = "management.nvidia.com/gpu"
spec-dirs = ["/etc/cdi", "/var/run/cdi"]
"""
"""What the GPU Operator sets if CDI is on: devices named by NVIDIA_VISIBLE_DEVICES are those for management."""


@cache
def build(folder: Path) -> Path:
    """Compile the toolkit's programs, and return the folder; the test is skipped if that cannot be done here."""
    if shutil.which("gcc") is None:
        pytest.skip("the container toolkit needs cgo: apt-get install gcc")
    required = toolchain.go_required({"toolkit": (SOURCES / "go.mod").read_text()})
    compiler = go.find(Cache.from_env(os.environ), required, for_terminal())
    argv = [compiler.program, "build", "-trimpath", "-ldflags", "-s -w", "-o", f"{folder}/"]
    run(
        [*argv, *(f"{MODULE}/{name}" for name in PROGRAMS)],
        env=compiler.environment() | {"CGO_ENABLED": "1"},
        cwd=SOURCES,
    )
    return folder


def install(machine: Node, folder: Path) -> None:
    """Put the programs on a node, and what its hook takes from there: ldconfig, which is a static program."""
    ldconfig = next(path for path in map(Path, ("/sbin/ldconfig.real", "/sbin/ldconfig")) if path.exists())
    machine.run("sh", "-c", "cat >/usr/sbin/ldconfig && chmod 755 /usr/sbin/ldconfig", stdin=ldconfig.read_bytes())
    for name in PROGRAMS:
        machine.run(
            "sh", "-c", f"cat >{FOLDER}/{name} && chmod 755 {FOLDER}/{name}", stdin=(folder / name).read_bytes()
        )


def add_runtime(machine: Node) -> None:
    """Have a node's containerd know the toolkit's runtime; containerd starts again."""
    settings = machine.config / "containerd" / "config.toml"
    settings.write_text(settings.read_text() + _CONTAINERD)
    folder = "/etc/nvidia-container-runtime"
    machine.run("sh", "-c", f"mkdir -p {folder} && cat >{folder}/config.toml", stdin=_SETTINGS.encode())
    machine.run("pkill", "-o", "-x", "containerd")


def generate(machine: Node, driver_root: str, vendor: str, mode: str = "management", dev_root: str = "") -> str:
    """Return the CDI specification (YAML) of what a folder of the node has of a driver, as ``vendor/gpu``.

    Args:
        machine: the node, with the toolkit.
        driver_root: the folder.
        vendor: the specification's.
        mode: in ``management`` the one device is all that there is, in ``nvml`` each GPU that the driver has is one.
        dev_root: holds ``dev`` with the device nodes; by default the driver's folder does.
    """
    roots = (f"--mode={mode}", f"--driver-root={driver_root}", f"--dev-root={dev_root or driver_root}")
    return machine.run("nvidia-ctk", "--quiet", "cdi", "generate", *roots, f"--vendor={vendor}")
