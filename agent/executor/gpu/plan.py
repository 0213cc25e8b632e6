"""What a capture or restore will do with GPUs, decided before anything is touched. Pure."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from agent.errors import RefusedError
from agent.gpu.ahead.prefetch import Part, plan_parts, room_of, share_room
from agent.gpu.cuda import Device, DriverVersion
from artifact.manifest import Manifest
from artifact.parts.gpu import DeviceMemory, Gpu, GpuDevice
from contract.api.states import AgentReason
from contract.config.gpus import DeniedDriver
from contract.nodes.node_facts import version_numbers

DEVICE_FILES: Final = "/dev/nvidia"
DRIVER_FOLDERS: Final = (DEVICE_FILES, "/proc/driver/nvidia", "/run/nvidia")
MIB: Final = 1 << 20
COPYING: Final = 128 * MIB
"""Page-locked memory that a library copies through, for as long as it does."""


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
    outside: Mapping[int, int] = field(default_factory=dict)
    """Host pid -> bytes of it that do not go through the process's memory."""

    @property
    def bytes(self) -> int:
        """Device memory of all of them."""
        return sum(self.used.values())

    @property
    def moved(self) -> int:
        """Bytes that a checkpoint adds to the container's memory."""
        return max(0, self.bytes - sum(self.outside.values())) + COPYING * len(self.outside)


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


def refuse_inherited_devices(in_use: Mapping[int, Collection[str]]) -> None:
    """Refuse a process that has the driver's devices by a fork: the driver's checkpoint leaves them open there.

    Args:
        in_use: what each process that is no CUDA process has open or mapped, by its pid inside the container.

    Raises:
        RefusedError: ``gpu-unsupported``.
    """
    for pid, paths in in_use.items():
        if files := sorted(path for path in paths if path.startswith(DEVICE_FILES)):
            raise RefusedError(
                AgentReason.GPU_UNSUPPORTED,
                f"process {pid} has {files[0]} open and is no CUDA process, as after a fork of one: have the worker "
                "start its processes before it uses the GPU, or by spawn",
            )


def refuse_mig(devices: Sequence[Device]) -> None:
    """Refuse a GPU that is divided: what of it a container has the driver does not checkpoint.

    Raises:
        RefusedError: ``gpu-unsupported``.
    """
    if words := _divided(devices):
        raise RefusedError(AgentReason.GPU_UNSUPPORTED, words)


def _divided(devices: Sequence[Device]) -> str | None:
    found = next((device for device in devices if device.mig), None)
    if found is None:
        return None
    return (
        f"GPU {found.uuid} is in MIG mode, and the driver checkpoints no MIG device (NVIDIA/cuda-checkpoint#42): keep "
        "these pods on nodes with whole GPUs"
    )


def refuse_denied_driver(driver: DriverVersion, denied: Sequence[DeniedDriver]) -> None:
    """Refuse a driver that is known to harm the node or the worker.

    Raises:
        RefusedError: ``gpu-driver-denied``.
    """
    if words := _denied(driver, denied):
        raise RefusedError(AgentReason.GPU_DRIVER_DENIED, words)


def _denied(driver: DriverVersion, denied: Sequence[DeniedDriver]) -> str | None:
    found = next((each for each in denied if each.covers(driver.version)), None)
    if found is None:
        return None
    return (
        f"this node has driver {driver.version}: {found.reason} ({found.report}); install another driver, keep "
        f"these pods on other nodes, or take {found.versions} out of the chart value gpu.deniedDrivers"
    )


def refuse_small_limit(needed: int, headroom: int | None, what: str, limit: int | None = None) -> None:
    """Refuse if the container's memory limit would end the worker.

    Args:
        needed: bytes that will be added to the container's memory.
        headroom: bytes that it may still use; None without a limit.
        what: the cause, as the beginning of a sentence.
        limit: the container's own in bytes; None without one.

    Raises:
        RefusedError: ``memory-limit``.
    """
    if words := beyond_limit(needed, headroom, what, limit):
        raise RefusedError(AgentReason.MEMORY_LIMIT, words)


def beyond_limit(needed: int, headroom: int | None, what: str, limit: int | None = None) -> str | None:
    """Say by how much the container's memory limit is too small; None if it is not. Arguments as above."""
    if headroom is None or needed <= headroom:
        return None
    short = -(-(needed - headroom) // MIB)
    value = f", to {-(-limit // MIB) + short}Mi" if limit is not None else ""
    return (
        f"{what} {needed // MIB} MiB, and the container's memory limit leaves {headroom // MIB} MiB: raise "
        f"resources.limits.memory by at least {short} MiB{value}"
    )


def driver_files(in_use: Collection[str], driver: DriverVersion) -> list[str]:
    """Return the driver's own libraries that the worker has mapped: their names end in the driver's version."""
    return sorted(path for path in in_use if path.endswith(f".so.{driver.version}"))


def is_of_driver(path: str, driver_version: str) -> bool:
    """Say whether a mount is the driver's: the container runtime makes it again for each container."""
    return path.startswith(DRIVER_FOLDERS) or path.endswith(f".so.{driver_version}")


def describe(use: GpuUse, in_use: Collection[str]) -> Gpu:
    """Return what the manifest says of the GPUs."""
    devices = [GpuDevice(uuid=d.uuid, model=d.model, used=use.used.get(d.uuid, 0)) for d in use.devices]
    return Gpu(
        driver=use.driver.version,
        cuda=use.driver.cuda,
        devices=devices,
        processes=sorted(use.processes.values()),
        driver_files=driver_files(in_use, use.driver),
    )


def pair_devices(captured: Gpu, devices: Sequence[Device]) -> tuple[tuple[str, str], ...]:
    """Return which GPU takes the place of which, as the driver wants it: no pairs for one, else all that were seen.

    Args:
        captured: what the manifest says.
        devices: those of the new container, ordered by their device nodes, which passed the checks.
    """
    pairs = tuple((old.uuid, new.uuid) for old, new in zip(captured.devices, devices, strict=True))
    return pairs if len(pairs) > 1 else ()


def devices_of_files(said: Sequence[str], devices: Sequence[Device]) -> list[int]:
    """Return which of the container's GPUs each file of device memory comes from; none if one is not known.

    Args:
        said: UUID of each, by a worker's library.
        devices: the container's.
    """
    numbers = {device.uuid: number for number, device in enumerate(devices)}
    return [numbers[uuid] for uuid in said] if len(numbers) > 1 and numbers.keys() >= set(said) else []


def whole_sizes(captured: Manifest) -> dict[str, int]:
    """Return the bytes of each file of an artifact, with what of it is in files of a model instead."""
    sizes = {name: entry.size for name, entry in captured.files.items()}
    for memory in captured.gpu.outside if captured.gpu is not None else ():
        for name, referenced in zip(memory.files, memory.referenced, strict=False):
            sizes[name] += referenced
    return sizes


@dataclass(frozen=True)
class PlannedPrefetch:
    """What of one process's files is read onto one card."""

    memory: DeviceMemory
    device: int
    """Which of the container's."""
    parts: Sequence[Part]
    room: int
    """Bytes that may be on the card at once before they are copied to the worker's own memory."""


def plan_prefetches(gpu: Gpu, sizes: Mapping[str, int], free: Sequence[int]) -> list[PlannedPrefetch]:
    """Return what is read onto which card before its process is there.

    Args:
        gpu: what the manifest says.
        sizes: of the artifact's files, whole.
        free: device memory that each GPU of the new container has.
    """
    planned = []
    for number, (device, has) in enumerate(zip(gpu.devices, free, strict=False)):
        stored = [(memory, _stored(memory, number, len(gpu.devices), sizes)) for memory in gpu.outside]
        parts = [plan_parts(files) for _, files in stored]
        rooms = share_room([room_of(each) for each in parts], has - device.used)
        planned += [
            PlannedPrefetch(memory, number, each, room)
            for (memory, _), each, room in zip(stored, parts, rooms, strict=True)
            if room
        ]
    return planned


def _stored(memory: DeviceMemory, device: int, devices: int, sizes: Mapping[str, int]) -> list[int]:
    """Return the bytes of each file that are for one device: all of a file, or nothing."""
    known = memory.devices if devices > 1 else [device] * len(memory.files)
    by_file = known or [-1] * len(memory.files)
    return [sizes[name] if of == device else 0 for name, of in zip(memory.files, by_file, strict=False)]


@dataclass(frozen=True)
class GpuPlace:
    """What GPUs a new container has, and how its node drives them."""

    devices: tuple[Device, ...] = ()
    """Ordered by their device nodes."""
    driver: DriverVersion | None = None
    denied: Sequence[DeniedDriver] = ()
    """Drivers that restore nothing."""


def _missing(captured: Gpu, place: GpuPlace) -> str | None:
    wanted = _listed([device.model for device in captured.devices])
    if place.driver is None:
        return (
            f"captured with {wanted}, and the agent finds no CUDA driver on this node: docs/gpu.md says where it looks"
        )
    return (
        None if place.devices else f"captured with {wanted}, and this pod has no GPU: request them in resources.limits"
    )


def _driver_denied(_: Gpu, place: GpuPlace) -> str | None:
    return _denied(place.driver, place.denied) if place.driver is not None else None


def _others(captured: Gpu, place: GpuPlace) -> str | None:
    """Compare versions too: a library of the driver is mapped into the worker, and another version is another file."""
    if place.driver is not None:
        then, now = version_numbers(captured.driver), version_numbers(place.driver.version)
        if now < then or (now != then and captured.driver_files):
            return (
                f"captured with driver {captured.driver}, this node has {place.driver.version}: capture again, or keep "
                "these pods on nodes with that driver"
            )
    if words := _divided(place.devices):
        return words
    models, ours = [d.model for d in captured.devices], [d.model for d in place.devices]
    if models == ours:
        return None
    return f"captured with {_listed(models)}, this pod has {_listed(ours)}: request the same GPUs, or capture on these"


def _short_of_memory(captured: Gpu, place: GpuPlace) -> str | None:
    for old, new in zip(captured.devices, place.devices, strict=False):
        if new.free < old.used:
            return (
                f"the worker needs {old.used // MIB} MiB of device memory, GPU {new.uuid} has {new.free // MIB} MiB "
                "free: another process holds the rest"
            )
    return None


GPU_CHECKS: Final[tuple[tuple[AgentReason, Callable[[Gpu, GpuPlace], str | None]], ...]] = (
    (AgentReason.GPU_MISSING, _missing),
    (AgentReason.GPU_DRIVER_DENIED, _driver_denied),
    (AgentReason.GPU_MISMATCH, _others),
    (AgentReason.GPU_MEMORY, _short_of_memory),
)


def _listed(models: Sequence[str]) -> str:
    counts = {model: models.count(model) for model in models}
    return ", ".join(f"{count} x {model}" for model, count in counts.items()) or "no GPU"
