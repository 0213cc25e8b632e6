"""Containers with the workers of this folder, started, captured and restored."""

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from artifact.manifest import parse_manifest
from contract.api import control_files, keys
from contract.pods.probe import Probe
from linux.proc import status
from tests.support.fixtures.bare_container import BareContainer, wait_for
from tests.support.fixtures.engine import Node
from tests.support.fixtures.runc_container import RuncContainer

WORKERS = Path(__file__).parent / "workers"
PROBE = Probe("HTTP", "127.0.0.1", 8000, timeout=20.0)
CONTROL = [name for name in ("nvidiactl", "nvidia-uvm", "nvidia-uvm-tools") if (Path("/dev") / name).exists()]
CARDS = sorted(path.name for path in Path("/dev").glob("nvidia[0-9]*"))
CARD = " ".join([*CONTROL, *CARDS[:1]])
BOTH = " ".join([*CONTROL, *CARDS[:2]])
NCCL = {"NCCL_SOCKET_IFNAME": "lo", "NCCL_NVLS_ENABLE": "0", "TORCH_NCCL_ENABLE_MONITORING": "0"}
SYMMETRIC = {
    "TORCH_SYMM_MEM_DISABLE_MULTICAST": "1",  # a card's host may not be left to it
    "TORCH_SYMM_MEM_ALLOW_OVERLAPPING_DEVICES": "1",  # both processes on one
    "GLOO_SOCKET_IFNAME": "lo",
}
SEGMENTS = {"PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True"}
START_SECONDS = 120.0
MIB = 1 << 20
OUTSIDE = {keys.ENV_DEVICE_MEMORY: "/tools/device-memory.so"}


def start(node: Node, kind: type[BareContainer], *arguments: str, mebibytes: int = 1024, flags=(), **options):
    """Start a container; on a machine's own devices if it is bare, on the named ones by runc."""
    script = options.pop("script", "torch_worker.py")
    sizes = [str(mebibytes)] if script == "torch_worker.py" else []
    command = ["--", sys.executable, f"/tools/{script}", *sizes, *flags]
    if kind is RuncContainer:
        options = {"devices": CARD} | options
    else:
        options.pop("devices", None)
    environment = {"HOME": "/tmp", "LD_LIBRARY_PATH": os.environ.get("LD_LIBRARY_PATH", "")} | options.pop("env", {})
    return node.start_as(kind, *arguments, *command, shm="1g", env=environment, **options)


def ready(node: Node, kind: type[BareContainer] = RuncContainer, **options):
    return until_ready(start(node, kind, "--capture", **options))


def until_ready(source: BareContainer, seconds: float = START_SECONDS) -> BareContainer:
    wait_for(lambda: "warm\n" in source.text() or not is_running(source), "the worker", seconds)
    assert is_running(source), source.text()
    wait_for((source.control / control_files.READY_FOR_SNAPSHOT).exists, f"ready file; {source.text()}", START_SECONDS)
    return source


def is_running(container: BareContainer) -> bool:
    return container.process.poll() is None


async def round_trip(node: Node, name: str, figure: Callable[[str], None], **options):
    """Capture after three steps, restore into another container; return the manifest.

    A twin that nothing is done to must make the same six steps. ``onto``: devices of the other container.
    """
    kind, onto = options.pop("kind", RuncContainer), options.pop("onto", "")
    source, twin = (start(node, kind, "--capture", **options) for _ in range(2))
    until_ready(source)
    steps = [source.get() for _ in range(3)]
    captured = await node.capture(source, name, probe=PROBE)
    assert captured.ok, (captured.message, source.text()[-2000:])
    expected = [until_ready(twin).get() for _ in range(6)]
    target = start(node, kind, **options | ({"devices": onto} if onto else {}))
    target.init()
    begun = time.monotonic()
    restored = await node.restore(target, name, captured.manifest_digest)
    assert restored.ok, (restored, target.text())
    steps.append(wait_for(target.get, "an answer"))
    first = time.monotonic() - begun
    steps += [target.get() for _ in range(2)]
    manifest = parse_manifest((node.store / name / "versions/1/manifest.yaml").read_bytes(), name)
    figure(
        f"{captured.size >> 20} MiB: capture {words(captured.seconds)}; restore {words(restored.seconds)}; "
        f"first answer after {first:.2f} s"
    )
    assert [json.loads(step) for step in expected] == [json.loads(step) for step in steps]
    return manifest


def used_by_workers(node: Node) -> set[int]:
    """Return the pids of those that hold device memory, without the agent's own process that reads it ahead."""
    return {pid for pid in node.environment.gpus.used() if status(pid).parent != os.getpid()}


def stored_on(manifest) -> list[int]:
    """MiB in files of device memory, of each card."""
    stored = [0] * len(manifest.gpu.devices)
    for memory in manifest.gpu.outside:
        for file, device in zip(memory.files, memory.devices, strict=True):
            stored[device] += manifest.files[file].size >> 20
    return stored


def words(seconds) -> str:
    shown = {name: value for name, value in seconds.items() if value >= 0.01}
    return ", ".join(f"{name} {value:.2f}" for name, value in shown.items())


async def restored_answers(node: Node, name: str, digest: str, count: int, **options) -> list[str]:
    """Return the first answers of a restored worker; options as of ``round_trip``."""
    target = start(node, RuncContainer, **options)
    target.init()
    restored = await node.restore(target, name, digest)
    assert restored.ok, (restored, target.text())
    return [wait_for(target.get, "an answer"), *(target.get() for _ in range(count - 1))]
