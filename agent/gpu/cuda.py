"""CUDA processes and GPUs as the executor sees them.

A call that does not return in time is lost, not cancelled: the driver goes on with it, and ``state`` says how it ended.
So a checkpoint or restore whose helper died is no reason to give a worker up; ask for its state, with patience.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from agent.gpu.driver import ProcessState
from contract.api.errors import SnapshotError
from contract.api.states import AgentReason


class CudaError(SnapshotError):
    """The driver refused, or did not answer in time."""


@dataclass(frozen=True)
class DriverVersion:
    """The node's driver."""

    version: str
    """Of the kernel driver: ``580.159.04``."""
    cuda: str
    """The newest CUDA that it serves: ``13.0``."""


@dataclass(frozen=True)
class Device:
    """One GPU of this node; memory in bytes."""

    uuid: str
    """Hexadecimal, without the prefix of nvidia-smi."""
    model: str
    minor: int
    """Its device node is ``/dev/nvidia<minor>``."""
    total: int
    free: int
    mig: bool = False
    """Whether it is divided into MIG devices."""
    exclusive: bool = False
    """Whether it is for one process at a time: a context of the agent's would keep others from it."""

    @property
    def spare(self) -> int:
        """Bytes of free memory that the agent may use beside a worker."""
        return 0 if self.exclusive else self.free


class Cuda(Protocol):
    """What captures and restores need of the driver; every pid is the host's."""

    def find(self, pids: Iterable[int]) -> Mapping[int, int]:
        """Return the CUDA processes among these, each with its restore thread. NVML alone and cuInit alone count.

        Works on stopped processes too. Raises CudaError if the driver fails.
        """
        ...

    def state(self, pid: int, seconds: float) -> ProcessState:
        """Return the state of a process. It must not be stopped: the call would not return."""
        ...

    def lock(self, pid: int, seconds: float) -> None:
        """Keep the process from CUDA calls; ``gpu-busy`` if those in flight take longer than that."""
        ...

    def checkpoint(self, pid: int, seconds: float) -> None:
        """Move device memory to host memory."""
        ...

    def restore(self, pid: int, pairs: Sequence[tuple[str, str]], seconds: float) -> None:
        """Move it back. Once for each restored process: after a failure a second call cannot succeed.

        ``pairs``: the UUID of each device that the process saw, and of the one to use; empty for one device.
        """
        ...

    def unlock(self, pid: int, seconds: float) -> None:
        """Let the process go on."""
        ...


class Gpus(Protocol):
    """What captures and restores look at before they touch anything."""

    def driver(self) -> DriverVersion | None:
        """Return the node's driver; None if there is none."""
        ...

    def devices(self) -> Sequence[Device]:
        """Return the node's GPUs as they are now; empty if there is no driver."""
        ...

    def used(self) -> Mapping[int, Mapping[str, int]]:
        """Return the device memory of each process that holds any: host pid -> UUID -> bytes."""
        ...


class NoGpus:
    """A node whose agent has no driver: there are no CUDA processes, and no call can be made."""

    def driver(self) -> None:
        """See ``Gpus``."""

    def devices(self) -> Sequence[Device]:
        """See ``Gpus``."""
        return ()

    def used(self) -> Mapping[int, Mapping[str, int]]:
        """See ``Gpus``."""
        return {}

    def find(self, _: Iterable[int]) -> Mapping[int, int]:
        """See ``Cuda``."""
        return {}

    def state(self, pid: int, _: float) -> ProcessState:
        """See ``Cuda``."""
        raise self._missing(pid)

    def lock(self, pid: int, _: float) -> None:
        """See ``Cuda``."""
        raise self._missing(pid)

    def checkpoint(self, pid: int, _: float) -> None:
        """See ``Cuda``."""
        raise self._missing(pid)

    def restore(self, pid: int, _: Sequence[tuple[str, str]], __: float) -> None:
        """See ``Cuda``."""
        raise self._missing(pid)

    def unlock(self, pid: int, _: float) -> None:
        """See ``Cuda``."""
        raise self._missing(pid)

    @staticmethod
    def _missing(pid: int) -> CudaError:
        return CudaError(AgentReason.GPU_MISSING, f"no CUDA driver on this node for process {pid}")
