"""One capture in progress: what it was asked for, and what its phases found and made."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

from agent.container.databases import OpenDatabase
from agent.container.inspection import Inspection
from agent.container.waits import Waiting
from agent.criu.connections import Address
from agent.executor.api import CaptureRequest
from agent.executor.capture.plan import CapturePlan
from agent.executor.environment import NodeEnvironment
from agent.executor.files.capture import SavedFiles, WorkerFiles
from agent.executor.gpu.device_memory import OutsideMemory
from agent.executor.gpu.plan import GpuUse
from agent.executor.lock import ContainerLock
from artifact.backends.base import Backend
from artifact.ipc import SysvIpc
from artifact.parts.gpu import DeviceMemory, ModelWeights
from artifact.parts.process import Connections, Eventfd, Program, ProtectionKeys, ThreadSettings
from artifact.publish import Published, Staging
from artifact.queues import PosixQueues
from artifact.read import Artifact


@dataclass
class Capture:
    """One capture in progress: what it was asked for, and what its phases found and made.

    A context: what phases have opened is closed at its end.
    """

    request: CaptureRequest
    lock: ContainerLock
    init_pid: int
    environment: NodeEnvironment
    resources: ExitStack = field(default_factory=ExitStack)
    seen: Inspection = field(init=False)
    use: GpuUse | None = None
    """What its CUDA processes hold; None if it has none."""
    plan: CapturePlan = field(init=False)
    answer: str | None = None
    """sha256 of what the worker answered to its canary; None if it was not asked."""
    cuda_pids: tuple[int, ...] = ()
    """Host pids of CUDA processes that were locked."""
    before_release: Callable[[], None] = lambda: None
    """Called when device memory is saved, and before it is taken from the worker."""
    device_memory: OutsideMemory | None = None
    """What libraries in its CUDA processes can take out; None if nothing."""
    memory_files: Mapping[int, Sequence[int]] = field(default_factory=dict)
    """Host pid -> descriptors of the files that its device memory goes to."""
    outside: Mapping[int, DeviceMemory] = field(default_factory=dict)
    """Host pid -> what the manifest says of those files."""
    weights: Sequence[ModelWeights] = ()
    """What it says of files of models that device memory is in."""
    store: Backend = field(init=False)
    staged: Staging = field(init=False)
    """A directory that is removed with this context, unless it was published."""
    goes_on: bool = False
    """Whether the worker runs on when it has been captured."""
    names: ExitStack = field(default_factory=ExitStack)
    """Of deleted files, for as long as a worker that goes on is stopped."""
    stopped: list[int] = field(default_factory=list)
    """Processes of the tree, inside the container, that were stopped when they were dumped, and not by us."""
    own_addresses: tuple[Address, ...] = ()
    """Of the pod, if a restore can replace them: in an artifact that is reached through the pod it cannot."""
    amx: list[int] = field(default_factory=list)
    """Processes that may use AMX, inside the container."""
    protection_keys: list[ProtectionKeys] = field(default_factory=list)
    databases: list[OpenDatabase] = field(default_factory=list)
    """That its processes know by their inodes."""
    settings: list[ThreadSettings] = field(default_factory=list)
    """Of its threads, which criu leaves out."""
    polls: Mapping[int, Waiting] = field(default_factory=dict)
    """Threads, inside the container, that waited in poll(2) without a limit before anything halted them."""
    renamed: Mapping[int, str] = field(default_factory=dict)
    """Inodes of Unix sockets, and the names that their files have now."""
    programs: Sequence[Program] = ()
    """That its processes run from memfds."""
    eventfds: Sequence[Eventfd] = ()
    """That criu would make as others."""
    connections: Connections = field(init=False)
    """What the manifest says of the worker's TCP connections."""
    ipc: SysvIpc | None = None
    """System V objects; None if there were none."""
    queues: PosixQueues | None = None
    """POSIX message queues; None if there were none."""
    files: WorkerFiles = field(init=False)
    saved: SavedFiles = field(init=False)
    published: Published = field(init=False)
    artifact: Artifact = field(init=False)
    """Sealed: it has no name before it is proved."""
    is_published: bool = False
