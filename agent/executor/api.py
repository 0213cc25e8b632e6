"""What the Kubernetes half of the agent asks of the engine, and what it gets back.

The Kubernetes half (``agent.pods``) knows pods and Jobs and no CRIU; the engine (``capture``,
``restore``) knows containers on this node and no Kubernetes. They meet only here.
"""

import socket
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Protocol

from contract.api.engine import Memory as Part
from contract.api.engine import MemoryReport
from contract.api.memory import NONE, Memory
from contract.api.reports import Connections, Filled, HotSet, ImageConfig, MemoryRestore, Step, memory_word
from contract.api.states import AgentReason
from contract.nodes.node_facts import NodeFacts, Source
from contract.pods.canary import CanaryCall
from contract.pods.probe import Probe


@dataclass(frozen=True)
class ContainerRef:
    """One container of one pod on this node."""

    namespace: str
    pod: str
    pod_uid: str
    container: str
    container_id: str = ""
    """Without the runtime's scheme; empty: the one that runs. The ExecutionResult says which it was."""
    empty_dirs: frozenset[str] = frozenset()
    """Mount paths of emptyDirs, as the pod writes them; not that of the control volume."""


@dataclass(frozen=True)
class CaptureRequest:
    """Capture this container now: its worker is ready."""

    place: ContainerRef
    checkpoint_id: str
    version: str
    base_path: PurePosixPath
    """Root of the store, as the agent sees it (agentMount) or as the container sees it (podMount)."""
    through_pod: bool
    """podMount: reach the store through the container's mount namespace."""
    image: str = ""
    """The container's image as its status names it, recorded in the manifest."""
    image_id: str = ""
    """The image as the runtime knows it; ends in the digest of its manifest or configuration."""
    probe: Probe | None = None
    """The worker's own; None if it has none that can be asked from outside the container."""
    writable_mounts: tuple[str, ...] = ()
    """Mount points of volumes on which files may be open for writing, as the pod's owner says."""
    canary: CanaryCall | None = None
    """What the restored worker must answer, as the pod's owner says."""
    refers_to_weights: bool | None = None
    """Whether device memory is left to files of the model, as the pod's owner says; None: as the node is set."""


@dataclass(frozen=True)
class RestoreRequest:
    """Restore into this container now."""

    place: ContainerRef
    checkpoint_id: str
    version: str
    base_path: PurePosixPath
    through_pod: bool
    manifest_digest: str
    """``blake3:<hex>``, from the DynamoCheckpoint's status: the only manifest that may be restored."""
    canary: CanaryCall | None = None
    """What the restored worker must answer, as the pod's owner says."""
    image: str = ""
    """The container's image with its digest; empty if that is not known yet."""
    bypass: frozenset[AgentReason] = frozenset()
    """Checks that this restore need not pass, as the pod's owner says."""
    parks: bool = False
    """Whether the worker is stopped, without its devices, until a request without this wakes it."""
    attempts: int = 1
    """How often it may be tried, if what failed may pass and left nothing behind."""


@dataclass(frozen=True)
class RejectRequest:
    """Do not restore into this container: its worker starts cold, at once and not after standby's patience."""

    place: ContainerRef
    reason: AgentReason
    message: str


@dataclass(frozen=True)
class ImageConfigRequest:
    """Give a capture's standby the command line of the container's image."""

    place: ContainerRef
    image_id: str


@dataclass(frozen=True)
class LookRequest:
    """Look at this running container as a capture would; change nothing."""

    place: ContainerRef
    writable_mounts: tuple[str, ...] = ()
    through_pod: bool = False
    """podMount: sockets on the pod's own address cannot follow to another."""


@dataclass(frozen=True)
class LookResult:
    """What was seen."""

    findings: tuple[tuple[AgentReason, str], ...] = ()
    """What is in the way of a capture, and where."""
    processes: int = 0
    memory: Memory = NONE
    error: str = ""
    """Why nothing could be seen; empty if it was."""


@dataclass(frozen=True)
class ExecutionResult:
    """How it ended. Standby already has its verdict."""

    ok: bool
    reason: str = ""
    """Kebab-case code, a closed list in ``contract.api.states.AgentReason``; empty when ok."""
    message: str = ""
    """One sentence for a person: what happened and what to do."""
    seconds: Mapping[str, float] = field(default_factory=dict)
    """Phase -> seconds, in order."""
    steps: Sequence[Step] = ()
    """The time line: when each phase ran, in seconds since the container was claimed."""
    size: int = 0
    """Bytes of the artifact."""
    manifest_digest: str = ""
    retry: bool = False
    """True if nothing was touched and the same request may be made again (another agent held the lock)."""
    container_id: str = ""
    """The container that this speaks of, as its cgroup names it; empty if none was found."""
    image: ImageConfig | None = None
    """Of a captured container's image; None if it could not be read."""
    connections: Connections | None = None
    """What became of the worker's; None if it failed, or the artifact does not say."""
    engine: MemoryReport | None = None
    """How a restored worker's memory was to come back, and how it came; None if it failed."""
    filling: "Future[Filled | None] | None" = field(default=None, compare=False, repr=False)
    """The end of a fill that goes on while the worker runs; None of it if its page server ended early."""
    hot: HotSet | None = None
    """What became of the artifact's hot set; None if it has none that could be used."""
    source: Source | None = None
    """What an artifact was taken on; None if it failed."""
    bypassed: Mapping[AgentReason, str] = field(default_factory=dict)
    """Checks that a restore did not pass and did not have to, each with what it found."""
    parked: bool = False
    """Whether the worker is restored but for its devices, and stopped: standby has no verdict yet."""
    tried: tuple[tuple[AgentReason, str], ...] = ()
    """Reason and message of each attempt before the last one."""

    @property
    def memory(self) -> MemoryRestore | None:
        """How a restored worker's private memory came back, in one word."""
        if self.engine is None:
            return None
        choice = next((choice for choice in self.engine.came if choice.memory is Part.PRIVATE), None)
        return memory_word(choice) if choice is not None else MemoryRestore.SMALL


@dataclass(frozen=True)
class NodeGpus:
    """The GPUs of this node."""

    models: tuple[str, ...]
    """One for each GPU."""
    driver: str
    """Version of the kernel driver."""


class Engine(Protocol):
    """Captures and restores containers of this node. Never raises: every failure is an ExecutionResult."""

    async def capture(self, request: CaptureRequest) -> ExecutionResult:
        """Dump, publish, verify, and write standby's verdict."""
        ...

    async def capture_running(self, request: CaptureRequest) -> ExecutionResult:
        """Dump, publish and read again a worker that goes on; its standby gets no verdict, and it no proof."""
        ...

    async def restore(self, request: RestoreRequest) -> ExecutionResult:
        """Lock the container, verify, put files back, restore, and write standby's verdict.

        If the container's standby is still not up after some seconds: ok=False and retry=True.
        A worker that is parked goes on from there, whichever agent has parked it, unless it is to stay so.
        """
        ...

    async def reject(self, request: RejectRequest) -> ExecutionResult:
        """Lock the container, and write the verdict that there is no restore; retry=True as for a restore."""
        ...

    async def provide_image_config(self, request: ImageConfigRequest) -> ExecutionResult:
        """Give a capture's standby what it waits for; retry=True if it is not up yet."""
        ...

    async def look(self, request: LookRequest) -> LookResult:
        """Say what is in the way of a capture of a running container, standby in it or not."""
        ...


class PodNetworks(Protocol):
    """The networks of this node's pods, as far as their workers ask for something in them."""

    async def listen(self, pod_uid: str) -> socket.socket | None:
        """Listen where a worker asks for its capture; None if the pod has no process yet. Raises OSError."""
        ...

    async def caller(self, pod_uid: str, peer: tuple[str, int]) -> str:
        """Return the id of the container that is at the other end of a connection there; empty if none is."""
        ...


class NodeView(Protocol):
    """What this node is and can do."""

    async def check(self) -> tuple[str, ...]:
        """Return what keeps this node from capturing or restoring; empty when it can."""
        ...

    async def gpus(self) -> NodeGpus | None:
        """Return the node's GPUs; None if the agent finds no driver, or the driver does not answer."""
        ...

    async def facts(self) -> NodeFacts | None:
        """Return what of this node a process image depends on, in Kubernetes' words; None if it cannot be read."""
        ...
