"""What a capture or restore will do with GPUs, decided before anything is touched. Pure."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from agent.errors import RefusedError
from agent.executor.restore_checks import version_numbers
from agent.gpu.cuda import Device, DriverVersion
from artifact import manifest
from contract.api.states import AgentReason
from contract.config.gpus import DeniedDriver

DEVICE_FILES: Final = "/dev/nvidia"
DRIVER_FOLDERS: Final = (DEVICE_FILES, "/proc/driver/nvidia", "/run/nvidia")
MIB: Final = 1 << 20


@dataclass(frozen=True)
class GpuUse:
    """What the CUDA processes of a worker hold right now."""

    driver: DriverVersion
    devices: tuple[Device, ...]
    """The container's, ordered by their device nodes."""
    processes: Mapping[int, int]
    """Host pid -> pid inside the container."""
    used: Mapping[str, int]
    """UUID -> bytes, of all of them together."""

    @property
    def bytes(self) -> int:
        """Device memory that a checkpoint moves into the container's memory."""
        return sum(self.used.values())


def container_devices(devices: Sequence[Device], minors: Collection[int]) -> tuple[Device, ...]:
    """Return the GPUs whose device nodes the container has."""
    return tuple(sorted((d for d in devices if d.minor in minors), key=lambda d: d.minor))


def refuse_unseen_devices(in_use: Collection[str]) -> None:
    """Refuse a worker that uses GPUs if no CUDA process of it is seen: criu cannot dump device files.

    Raises:
        RefusedError: ``gpu-missing``.
    """
    if files := sorted(path for path in in_use if path.startswith(DEVICE_FILES)):
        raise RefusedError(
            AgentReason.GPU_MISSING,
            f"the worker has {files[0]} open, and the agent finds no CUDA process in it: the agent needs the "
            "node's driver, 570 or newer; if it is in an unusual folder, set gpu.driverRoot",
        )


def refuse_denied_driver(driver: DriverVersion, denied: Sequence[DeniedDriver]) -> None:
    """Refuse a driver that is known to harm the node or the worker.

    Raises:
        RefusedError: ``gpu-driver-denied``.
    """
    found = next((each for each in denied if each.covers(driver.version)), None)
    if found is not None:
        raise RefusedError(
            AgentReason.GPU_DRIVER_DENIED,
            f"this node has driver {driver.version}: {found.reason} ({found.report}); install another driver, keep "
            f"these pods on other nodes, or take {found.versions} out of the chart value gpu.deniedDrivers",
        )


def refuse_small_limit(needed: int, headroom: int | None, what: str) -> None:
    """Refuse if the container's memory limit would end the worker.

    Args:
        needed: bytes that will be added to the container's memory.
        headroom: bytes that it may still use; None without a limit.
        what: the cause, as the beginning of a sentence.

    Raises:
        RefusedError: ``memory-limit``.
    """
    if headroom is not None and needed > headroom:
        short = -(-(needed - headroom) // MIB)
        raise RefusedError(
            AgentReason.MEMORY_LIMIT,
            f"{what} {needed // MIB} MiB, and the container's memory limit leaves {headroom // MIB} MiB: raise "
            f"resources.limits.memory by at least {short} MiB",
        )


def driver_files(in_use: Collection[str], driver: DriverVersion) -> list[str]:
    """Return the driver's own libraries that the worker has mapped: their names end in the driver's version."""
    return sorted(path for path in in_use if path.endswith(f".so.{driver.version}"))


def is_of_driver(path: str, driver_version: str) -> bool:
    """Say whether a mount is the driver's: the container runtime makes it again for each container."""
    return path.startswith(DRIVER_FOLDERS) or path.endswith(f".so.{driver_version}")


def describe(use: GpuUse, in_use: Collection[str]) -> manifest.Gpu:
    """Return what the manifest says of the GPUs."""
    devices = [manifest.GpuDevice(uuid=d.uuid, model=d.model, used=use.used.get(d.uuid, 0)) for d in use.devices]
    return manifest.Gpu(
        driver=use.driver.version,
        cuda=use.driver.cuda,
        devices=devices,
        processes=sorted(use.processes.values()),
        driver_files=driver_files(in_use, use.driver),
    )


def plan_devices(
    captured: manifest.Gpu,
    devices: Sequence[Device],
    driver: DriverVersion | None,
    denied: Sequence[DeniedDriver] = (),
) -> tuple[tuple[str, str], ...]:
    """Return which GPU takes the place of which, as the driver wants it: no pairs for one, else all that were seen.

    Args:
        captured: what the manifest says.
        devices: those of the new container, ordered by their device nodes.
        driver: of this node.
        denied: drivers that restore nothing.

    Raises:
        RefusedError: ``gpu-missing``, ``gpu-driver-denied``, ``gpu-mismatch`` or ``gpu-memory``.
    """
    if driver is None or not devices:
        raise RefusedError(AgentReason.GPU_MISSING, _missing(captured, driver))
    refuse_denied_driver(driver, denied)
    _same_driver(captured, driver)
    then, now = [d.model for d in captured.devices], [d.model for d in devices]
    if then != now:
        raise RefusedError(
            AgentReason.GPU_MISMATCH,
            f"captured with {_listed(then)}, this pod has {_listed(now)}: request the same GPUs, or capture on these",
        )
    for old, new in zip(captured.devices, devices, strict=True):
        if new.free < old.used:
            raise RefusedError(
                AgentReason.GPU_MEMORY,
                f"the worker needs {old.used // MIB} MiB of device memory, GPU {new.uuid} has {new.free // MIB} MiB "
                "free: another process holds the rest",
            )
    pairs = tuple((old.uuid, new.uuid) for old, new in zip(captured.devices, devices, strict=True))
    return pairs if len(pairs) > 1 else ()


def _missing(captured: manifest.Gpu, driver: DriverVersion | None) -> str:
    wanted = _listed([device.model for device in captured.devices])
    if driver is None:
        return (
            f"captured with {wanted}, and the agent finds no CUDA driver on this node: docs/gpu.md says where it looks"
        )
    return f"captured with {wanted}, and this pod has no GPU: request them in resources.limits"


def _same_driver(captured: manifest.Gpu, driver: DriverVersion) -> None:
    """Compare versions: a library of the driver is mapped into the worker, and another version is another file."""
    then, now = version_numbers(captured.driver), version_numbers(driver.version)
    if now < then or (now != then and captured.driver_files):
        raise RefusedError(
            AgentReason.GPU_MISMATCH,
            f"captured with driver {captured.driver}, this node has {driver.version}: capture again, or keep these "
            "pods on nodes with that driver",
        )


def _listed(models: Sequence[str]) -> str:
    counts = {model: models.count(model) for model in models}
    return ", ".join(f"{count} x {model}" for model, count in counts.items()) or "no GPU"
