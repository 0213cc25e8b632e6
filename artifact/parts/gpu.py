"""Of a manifest: device state and device memory."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from artifact.parts.base import FileName, Part, Path, Pid


class GpuDevice(Part):
    """One GPU that the worker saw."""

    uuid: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
    model: str
    used: Annotated[int, Field(ge=0)]
    """Bytes of its memory that the worker held."""


class DeviceMemory(Part):
    """Device memory of one process that is in files of its own."""

    process: Pid
    """As numbered inside the container."""
    files: Annotated[list[FileName], Field(min_length=1, max_length=64)]
    """In the order of the threads that wrote them."""
    bytes: Annotated[int, Field(ge=0)]
    """All of it; what is zeros is in no file."""
    devices: Annotated[list[Annotated[int, Field(ge=0)]], Field(max_length=64)] = []
    """Of each file, which of the GPUs all of it comes from; empty: the only one, or not known."""
    imported: Annotated[int, Field(ge=0)] = 0
    """Pieces of memory that other processes of the worker share with this one; they are in those processes' files."""
    discarded: Annotated[int, Field(ge=0)] = 0
    """Bytes that the worker had allocated as discardable: they are in no file either, and zeros in a restored one."""
    ranges: FileName | None = None
    """The table of what is not in ``files`` but in files of the model; None if all is."""
    referenced: Annotated[list[Annotated[int, Field(ge=0)]], Field(max_length=64)] = []
    """Bytes of each file that are in files of the model; empty: none."""

    @property
    def names(self) -> list[str]:
        """All its files of the artifact."""
        return [*self.files, *([self.ranges] if self.ranges is not None else [])]

    @model_validator(mode="after")
    def _has_all_of_it_or_a_table(self) -> Self:
        if bool(self.referenced) != (self.ranges is not None) or len(self.referenced) not in (0, len(self.files)):
            raise ValueError("ranges and referenced do not fit together")
        return self


class ModelWeights(Part):
    """A file of a model that device memory is in; a restore reads it through its own pod's mount."""

    point: Path
    """Where its volume is mounted."""
    name: str
    """Below that point."""
    size: Annotated[int, Field(ge=0)]
    blake3: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Gpu(Part):
    """The device state of the worker: in the memory of its processes, but for what ``outside`` names."""

    driver: str
    """Version of the kernel driver."""
    cuda: str
    devices: list[GpuDevice]
    """Ordered by their device nodes."""
    processes: list[Pid]
    """Those that the driver restores, as numbered inside the container."""
    driver_files: list[Path] = []
    """Libraries of the driver that are mapped into them."""
    outside: list[DeviceMemory] = []
    weights: list[ModelWeights] = []
    """Files of models that some of ``outside`` is in, in the order in which its tables number them."""

    @property
    def bytes(self) -> int:
        """Device memory of all of them."""
        return sum(device.used for device in self.devices)
