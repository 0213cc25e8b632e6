"""Moves the device memory that a worker's preload library holds into files of the artifact, and back.

While it moves, every thread of the process is held but the library's and the driver's own. None of them is in the
middle of a call: the library keeps them out of the driver first, then the driver's own lock waits for those within.
"""

import logging
import os
import signal
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from agent.errors import ContainerError
from agent.executor.gpu.neighbours import Neighbours
from agent.executor.gpu.open_weights import OpenWeights
from agent.executor.gpu.plan import PlannedPrefetch
from agent.executor.gpu.shared_memory import SpoiledError, find_owners, share_again
from agent.gpu.ahead.prefetch import Prefetch, Prefetcher
from agent.gpu.cuda import Cuda, CudaError, Device, Gpus
from agent.gpu.device_memory import Conversation, Saved
from agent.gpu.driver import ProcessState
from agent.gpu.preload import Library, find_library, is_preloaded
from agent.gpu.ranges import NOWHERE, Elsewhere
from artifact.read import Artifact
from contract.api.states import AgentReason
from linux.mounts import reopened_read_only
from linux.proc import PROC, Status, is_alive
from linux.ptrace.thread_hold import HoldError, ThreadHold

logger = logging.getLogger(__name__)

LOCK_SECONDS: Final = 10.0
"""How long a lock may take of a process of which no thread runs but ours."""


@dataclass(frozen=True)
class Held:
    """What one process's library can take out."""

    library: Library
    bytes: int
    """Of device memory."""
    imported: int = 0
    """Pieces of memory that it has from other processes."""
    on_host: int = 0
    """Bytes of the host's memory that the driver mapped for it; they are saved like device memory."""
    takes_ranges: bool = False
    """Whether what is saved of it may be in other files, in part."""


@dataclass(frozen=True)
class Libraries:
    """What the libraries of a worker's CUDA processes hold."""

    held: Mapping[int, Held]
    """By host pid; those that hold nothing are left out."""
    others: Sequence[int]
    """Pids inside the container of those whose device memory no library can take out."""


def look_at_libraries(processes: Mapping[int, int], init_pid: int, gpus: Gpus, proc: Path = PROC) -> Libraries:
    """Return what the libraries of running CUDA processes hold.

    Args:
        processes: host pid -> pid inside the container.
        init_pid: of the container.
        gpus: says what they really hold: a library that claims more is left out.
        proc: where processes show.
    """
    libraries = [library for pid, inner in processes.items() if (library := find_library(pid, inner, proc))]
    used = gpus.used() if libraries else {}
    found: dict[int, Held] = {}
    has_library = {library.pid for library in libraries}
    others = {pid for pid in processes if pid in has_library or not is_preloaded(pid, proc)}
    for library in libraries:
        pid = library.pid
        try:
            with Conversation(library, init_pid, proc) as conversation:
                contents = conversation.contents()
        except CudaError as error:
            logger.warning("device memory goes through the image", extra={"reason": str(error)})
            continue
        if contents.bytes > sum(used.get(pid, {}).values()) or contents.on_host > _node_memory():
            claimed = {"bytes": contents.bytes, "on_host": contents.on_host, "pid": pid}
            logger.warning("a worker claims more device memory than it has", extra=claimed)
            continue
        others.discard(pid)
        if contents.bytes or contents.imported or contents.on_host:
            found[pid] = Held(library, contents.bytes, contents.imported, contents.on_host, contents.takes_ranges)
    return Libraries(found, sorted(processes[pid] for pid in others))


def _node_memory() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


class OutsideMemory:
    """The device memory of locked CUDA processes of one container, by their libraries.

    Args:
        cuda: the driver.
        init_pid: of the container.
        libraries: what they hold.
        proc: where processes show.
    """

    def __init__(self, cuda: Cuda, init_pid: int, libraries: Libraries, proc: Path = PROC) -> None:
        self._cuda = cuda
        self._init_pid = init_pid
        self.held = libraries.held
        self._others = libraries.others
        self._proc = proc
        self._talks: dict[int, Conversation] = {}
        self.saved: dict[int, Saved] = {}
        """By host pid."""
        self.is_out = False
        """Whether device memory was given back to the driver, some of it at least, and is not there again."""

    def keep_out(self) -> None:
        """Have the workers' threads wait before the driver; to be called before its own lock.

        Raises:
            CudaError: a library cannot, or what it shares would part from those that have none.
        """
        for pid in self.held:
            self._talks[pid] = self._talk(pid)
            self._talks[pid].keep_out()
        now = {pid: talk.contents() for pid, talk in self._talks.items()}  # more may be shared than was before
        self.held = {pid: replace(held, imported=now[pid].imported) for pid, held in self.held.items()}
        if self._others and any(contents.exported for contents in now.values()):
            words = f"the worker's processes share device memory, and process {self._others[0]} may have some of it: "
            raise CudaError(AgentReason.GPU_UNSUPPORTED, f"{words}it was started without the library for that")

    def let_in(self) -> None:
        """Undo ``keep_out``, unless device memory was taken out meanwhile: nothing may use it then."""
        while self._talks:
            self._talks.popitem()[1].close()

    def take_out(
        self,
        files: Mapping[int, Sequence[int]],
        seconds: float,
        before_release: Callable[[], None] = lambda: None,
        *,
        discards: bool = False,
    ) -> None:
        """Save the device memory of processes that are kept out and locked, and release it; they are locked again then.

        Args:
            files: host pid -> descriptors of its files.
            seconds: how long it may take.
            before_release: called when all is saved, and nothing is taken yet.
            discards: whether memory that they allocated as discardable is lost, so that they cannot go on.

        Raises:
            CudaError, ContainerError: it cannot; ``put_back`` undoes what was done.
        """

        def save(pid: int) -> None:
            held = self.held[pid]
            size = held.bytes + held.on_host
            self.saved[pid] = self._talks[pid].save(files[pid], size, seconds, discards=discards)

        def release(pid: int) -> None:
            self._talks[pid].release()
            self._talks[pid].close()
            self._cuda.lock(pid, LOCK_SECONDS)

        with self._hold(self.held) as hold:
            hold.run(lambda pid: self._cuda.unlock(pid, LOCK_SECONDS), self.held)
            self._find_owners(hold)
            hold.run(save, self.held)
            before_release()
            hold.bind()
            self.is_out = True
            hold.run(release, self.held)
        self._talks.clear()

    def _find_owners(self, hold: ThreadHold) -> None:
        """Have them find out whose the memory is that they share. Those whose memory it spoils are killed."""
        if not (importing := [pid for pid, held in self.held.items() if held.imported]):
            return
        try:
            find_owners(hold, self._talks, importing)
        except SpoiledError as error:
            for pid in self.held:
                _kill(pid)
            raise CudaError(AgentReason.GPU_FAILED, str(error)) from error

    def put_back(self, files: Mapping[int, Sequence[int]], seconds: float) -> bool:
        """Undo ``take_out`` in place: locked processes get their memory, and go on. Those that have ended need nothing.

        Returns:
            False if one of them was killed, because it cannot have its memory.
        """
        if not self.is_out:
            return True
        self.let_in()  # ends conversations: the gate stays closed
        alive = [pid for pid in self.held if is_alive(pid, self._proc)]
        if any(saved.discarded for saved in self.saved.values()):
            return self._end(alive)
        try:
            with self._hold(alive) as hold:
                hold.bind()
                hold.run(self._begin_again, alive)
                hold.run(lambda pid: self._talks[pid].load(files[pid], seconds), alive)
                if self._shares:
                    hold.run(lambda _: share_again(self._talks, self._inner, seconds), alive[:1])
                self.let_in()
        except (CudaError, ContainerError, OSError):
            self.let_in()
            return self._end(alive)
        self.is_out = False
        return True

    def _end(self, pids: Collection[int]) -> bool:
        """Kill processes that cannot have what they had: their next kernel would find nothing, or zeros."""
        left = [pid for pid in pids if is_alive(pid, self._proc)]
        for pid in left:
            _kill(pid)
        return not left

    def _begin_again(self, pid: int) -> None:
        if self._cuda.state(pid, LOCK_SECONDS) == ProcessState.LOCKED:
            self._cuda.unlock(pid, LOCK_SECONDS)
        self._talks[pid] = self._talk(pid)
        if self.held[pid].imported:  # one that had not come to it would keep memory that its owner makes again
            self._talks[pid].release()

    @property
    def _shares(self) -> bool:
        return any(held.imported for held in self.held.values())

    @property
    def _inner(self) -> Mapping[int, int]:
        return {pid: held.library.inner_pid for pid, held in self.held.items()}

    def _talk(self, pid: int) -> Conversation:
        return Conversation(self.held[pid].library, self._init_pid, self._proc)

    @contextmanager
    def _hold(self, pids: Collection[int]) -> Iterator[ThreadHold]:
        ours = {tid for pid in pids for tid in self.held[pid].library.threads}
        try:
            with ThreadHold(pids, ours | set(self._cuda.find(pids).values()), stopped=False) as hold:
                yield hold
        except HoldError as error:
            raise ContainerError(
                AgentReason.GPU_FAILED, f"the worker's processes could not be held: {error}"
            ) from error


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


@dataclass(frozen=True)
class Load:
    """Fills the device memory of one restored process."""

    library: Library
    init_pid: int
    files: Sequence[int]
    """Descriptors of what was saved."""
    prefetches: Sequence[Prefetch] = ()
    """Parts of those that are on the cards already."""
    shares: bool = False
    """Whether processes of the worker share device memory: all must have their own before any gets another's."""
    elsewhere: Elsewhere = NOWHERE
    """What of the files is in files of a model."""

    def talk(self) -> Conversation:
        """Begin to talk with its library; the process must be unlocked."""
        return Conversation(self.library, self.init_pid)

    def run(self, talk: Conversation, seconds: float) -> None:
        """Fill it; only the library's threads may run.

        Raises:
            CudaError: it cannot.
        """
        for prefetch in self.prefetches:
            talk.hand_over(prefetch, seconds)
            prefetch.close()  # what is still on its way would be in the way of the worker's own memory
        if self.elsewhere:
            with self.elsewhere.table() as table:
                talk.refer(self.elsewhere.sources, table)
        talk.load(self.files, seconds)


@dataclass(frozen=True)
class SavedMemory:
    """What a restore fills device memory from."""

    artifact: Artifact
    weights: OpenWeights
    """Files of models that some of it is in."""
    through_pod: bool
    """Whether the artifact is in a volume of the pod's own, which must not stay in use after the pod."""


def start_prefetches(
    saved: SavedMemory,
    planned: Sequence[PlannedPrefetch],
    devices: Sequence[Device],
    prefetcher: Prefetcher,
    neighbours: Neighbours,
    resources: ExitStack,
) -> dict[int, list[Prefetch]]:
    """Begin to put device memory on the cards, before the processes that it belongs to are there.

    Args:
        saved: what is restored.
        planned: what is read onto which card.
        devices: of the container, as they are now; each in the place of the captured one of its number.
        prefetcher: does it.
        neighbours: workers whose memory it may come from.
        resources: end it.

    Returns:
        By the process's number inside the container, one for each of its devices.
    """
    started: dict[int, list[Prefetch]] = {}
    for each in planned:
        with ExitStack() as during:
            files = []
            for name in each.memory.files:
                files.append(saved.artifact.open(name))
                during.callback(os.close, files[-1])
            device, keeps = devices[each.device].uuid, not saved.through_pod
            elsewhere = saved.weights.elsewhere(each.memory.process)
            lender = neighbours.lender(saved.artifact.digest, each.memory.process)
            prefetch = prefetcher.start(
                device, files, each.parts, each.room, keeps=keeps, elsewhere=elsewhere, lender=lender
            )
        resources.callback(prefetch.close)
        started.setdefault(each.memory.process, []).append(prefetch)
    return started


def plan_loads(
    tree: Mapping[int, Status],
    init_pid: int,
    saved: SavedMemory,
    resources: ExitStack,
    prefetches: Mapping[int, Sequence[Prefetch]],
    *,
    proc: Path = PROC,
) -> dict[int, Load]:
    """Return what fills the device memory that is in files of an artifact, by host pid.

    Args:
        tree: host pid -> status, of every restored process.
        init_pid: of the container.
        saved: what it was restored from.
        resources: closes the files.
        prefetches: what is on the cards already, by the process's number inside the container.
        proc: where processes show.

    Raises:
        ContainerError: a process lacks the library, or is missing.
    """
    pids = {status.inner_pid: pid for pid, status in tree.items()}
    loads, artifact = {}, saved.artifact
    for memory in artifact.manifest.gpu.outside if artifact.manifest.gpu is not None else ():
        pid = pids.get(memory.process)
        library = find_library(pid, memory.process, proc) if pid is not None else None
        if pid is None or library is None:
            words = f"restored process {memory.process} has lost the library that holds its device memory"
            raise ContainerError(AgentReason.GPU_FAILED, words)
        files = [_open(artifact, name, resources, through_pod=saved.through_pod) for name in memory.files]
        ahead = prefetches.get(memory.process, ())
        shares, elsewhere = artifact.manifest.shares_device_memory, saved.weights.elsewhere(memory.process)
        loads[pid] = Load(library, init_pid, files, ahead, shares, elsewhere)
    return loads


def _open(artifact: Artifact, name: str, resources: ExitStack, *, through_pod: bool) -> int:
    """Open a file so that the worker, which gets the descriptor, cannot make one to write of it.

    A mount of the pod's own cannot be made again in another namespace, and gives the worker nothing that it has not.
    """
    opened = artifact.open(name)
    if through_pod:
        resources.callback(os.close, opened)
        return opened
    try:
        descriptor = reopened_read_only(opened)
    except OSError as error:
        words = f"{name} cannot be handed to the worker for reading alone: {error}"
        raise ContainerError(AgentReason.GPU_FAILED, words) from error
    finally:
        os.close(opened)
    resources.callback(os.close, descriptor)
    return descriptor
