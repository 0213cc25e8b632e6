"""One restore in progress: what it was asked for, and what its phases found and made."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from agent.container.files.dated_links import DatedLink
from agent.container.inspection import Inspection
from agent.container.rights import Rights
from agent.criu.connections import Endpoint
from agent.criu.page_server import PageServer
from agent.errors import ContainerError
from agent.executor.api import ContainerRef, RestoreRequest
from agent.executor.environment import NodeEnvironment
from agent.executor.gpu.open_weights import OpenWeights
from agent.executor.lock import ContainerLock
from agent.executor.restore.checks import RestorePlan
from agent.executor.restore.engine_plan import EnginePlan, what_came
from agent.gpu.ahead.prefetch import Prefetch
from agent.gpu.cuda import Device
from agent.gpu.preload import Library
from artifact.ipc import SysvIpc
from artifact.queues import PosixQueues
from artifact.read import Artifact
from artifact.verifier import Verifier
from contract.api.engine import Choice, MemoryReport
from contract.api.reports import HotSet, ReportPhase, Step
from contract.api.states import AgentReason
from linux.net.sockets import Address
from linux.proc import Status


@dataclass
class Restore:
    """One restore in progress: what it was asked for, and what its phases found and made."""

    place: ContainerRef
    lock: ContainerLock
    init_pid: int
    environment: NodeEnvironment
    request: RestoreRequest = field(init=False)
    """Set before the phases run; undoing them, as for a rejected pod, needs none."""
    resources: ExitStack = field(default_factory=ExitStack)
    artifact: Artifact = field(init=False)
    verifier: Verifier | None = None
    """Of the files of memory; None before they are verified."""
    seen: Inspection = field(init=False)
    plan: RestorePlan = field(init=False)
    rights: Rights = field(init=False)
    """The container's."""
    profile: str = ""
    """Of AppArmor, for all of the tree."""
    moves: Mapping[Address, Address] = field(default_factory=dict)
    """Address of the capture's pod -> that of this one."""
    images: int = field(init=False)
    """Descriptor of the directory that criu restores from, which is the agent's own."""
    parked: str = ""
    """Digest of the manifest that the worker was parked of; empty if it was not."""
    ends: tuple[tuple[Endpoint, Endpoint], ...] = ()
    """Address and peer of each connection that criu restores."""
    renamed: list[tuple[str, str]] = field(default_factory=list)
    """Mount point and former name of kubelet's folders that criu is to find."""
    links: list[DatedLink] = field(default_factory=list)
    inside: list[dict[str, Any]] = field(default_factory=list)
    """Changes of files that are made by the helper that starts criu."""
    engine: EnginePlan = field(default_factory=EnginePlan)
    """How the worker's memory comes back; decided when all was looked at."""
    pages: PageServer | None = None
    """What fills the tree's memory; None if criu copied all of it."""
    records: bool = False
    """Whether it is to be known which pages the worker touches until it answers."""
    hot: HotSet | None = None
    """What became of the artifact's hot set; None if it has none, or criu copied all memory."""
    memory: Choice | None = None
    """How the tree's memory came back, if not as planned."""
    bypassed: Mapping[AgentReason, str] = field(default_factory=dict)
    """What is in the way, and was not to count."""
    devices: tuple[Device, ...] = ()
    """GPUs of the container; looked up only if there is device state."""
    weights: OpenWeights = field(default_factory=OpenWeights)
    """Files of models that some of the device memory is read from."""
    ipc: SysvIpc | None = None
    """System V objects; None if the worker had none."""
    queues: PosixQueues | None = None
    """POSIX message queues; None if the worker had none."""
    given: dict[str, int] = field(default_factory=dict)
    """Open files of those, by the names by which the images ask for them."""
    tree: Mapping[int, Status] = field(default_factory=dict)
    """Every restored process, by host pid."""
    prefetches: Mapping[int, Sequence[Prefetch]] = field(default_factory=dict)
    """Device memory on its way to the card, by pid inside the container."""
    ahead: int = 0
    """Bytes of it that restored processes have taken from there."""
    lent: int = 0
    """Those of them that came from another worker's memory."""
    libraries: Mapping[int, Library] = field(default_factory=dict)
    """That hold the tree's device memory, by pid inside the container."""
    beside: list[Step] = field(default_factory=list)
    """Of the time line: what went on beside the phases, by the monotonic clock."""
    cuda_pids: tuple[int, ...] = ()
    """Host pids of those that may hold device memory."""


def engine_of(restore: Restore) -> MemoryReport:
    """Return what was planned for the worker's memory, and what came of it."""
    plan = restore.engine
    return MemoryReport(plan.choices, what_came(plan, restore.memory or plan.memory, restore.ahead, restore.lent))


def beside(restore: Restore) -> Iterable[Step]:
    """Yield what went on beside the phases, by the monotonic clock."""
    verifier = restore.verifier
    if verifier is not None and verifier.ended > verifier.began:
        yield Step(ReportPhase.VERIFY, verifier.began, verifier.ended - verifier.began)
    yield from restore.beside


def of_pod(restore: Restore) -> Iterable[int]:
    """Return processes among which are all of the container's."""
    return restore.environment.pod_groups.pids(restore.place.pod_uid, restore.environment.proc)


def refuse_late(restore: Restore) -> None:
    """Refuse to go on in a container that has started cold since: an agent may have stood still, or waited for storage.

    Raises:
        ContainerError: standby is not there any more.
    """
    if not restore.lock.is_awaited():
        words = "standby no longer waits: the restore took longer than it may, or the container has ended"
        raise ContainerError(AgentReason.ALREADY_STARTED, words)
