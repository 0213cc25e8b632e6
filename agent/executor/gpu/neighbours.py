"""Workers on this node that were restored by this agent, and hold in device memory what the next one is to have."""

import logging
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from agent.gpu.ahead.lent import Lent
from agent.gpu.ahead.prefetch import Lender
from agent.gpu.cuda import CudaError
from agent.gpu.device_memory import Conversation
from agent.gpu.preload import Library, find_library
from linux.proc import is_alive

LEAST: Final = 16 << 20
"""Bytes of a piece of memory that is worth it: to export, import and map it takes some 0.4 ms on an H200."""
PATIENCE: Final = 0.5
"""Seconds that a running worker's library may take for one answer; it needs some 0.1 ms."""
logger = logging.getLogger(__name__)


@dataclass(eq=False)
class _Worker:
    """One restored worker."""

    digest: str
    init_pid: int
    libraries: Mapping[int, Library]
    """Of its processes, by pid inside the container."""
    lock: threading.Lock = field(default_factory=threading.Lock)
    """One conversation at a time."""
    is_over: bool = False


class Neighbours:
    """Those that may be asked. Any thread may call any of it.

    Args:
        are_asked: False on a node that is not to have this.
        least: bytes of a piece of memory that is worth it.
    """

    def __init__(self, *, are_asked: bool = True, least: int = LEAST) -> None:
        self._are_asked = are_asked
        self._least = least
        self._workers: list[_Worker] = []
        self._lock = threading.Lock()

    def note(self, digest: str, init_pid: int, libraries: Mapping[int, Library]) -> None:
        """Know of a worker that runs.

        Args:
            digest: of the manifest that it was restored from.
            init_pid: of its container.
            libraries: of its processes, by pid inside the container.
        """
        if not self._are_asked or not libraries:
            return
        with self._lock:
            self._workers = [worker for worker in self._workers if is_alive(worker.init_pid)]
            self._workers.append(_Worker(digest, init_pid, libraries))

    def forget(self, init_pid: int) -> None:
        """Ask a worker no more, from when this returns: it is stopped soon."""
        with self._lock:
            gone = [worker for worker in self._workers if worker.init_pid == init_pid]
            self._workers = [worker for worker in self._workers if worker not in gone]
        for worker in gone:
            with worker.lock:
                worker.is_over = True

    def lender(self, digest: str, process: int) -> Lender | None:
        """Return what asks a worker of an artifact for the memory of a process; None if there is no such worker.

        Workers take turns, so that many restores at once do not all read from one.
        """
        with self._lock:
            fitting = [worker for worker in self._workers if worker.digest == digest and process in worker.libraries]
            if not fitting:
                return None
            self._workers.remove(fitting[0])
            self._workers.append(fitting[0])
        return lambda: self._borrow(fitting[0], process)

    def _borrow(self, worker: _Worker, process: int) -> Lent | None:
        known = worker.libraries[process]
        with worker.lock:
            library = find_library(known.pid, known.inner_pid)
            if worker.is_over or library != known:  # its number may be another process's by now
                return None
            try:
                with Conversation(library, worker.init_pid, patience=PATIENCE) as conversation:
                    return conversation.lend(self._least)
            except CudaError as error:
                logger.info("a worker does not lend its device memory: %s", error)
        self.forget(worker.init_pid)
        return None
