"""Has files of an artifact read into device memory while the process that they belong to is still being restored.

The work is done by a resident process (``agent.gpu.prefetcher``). Nothing depends on it: what it has not filled in time
the restored process reads from the files itself.
"""

import itertools
import json
import logging
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from agent.gpu.driver import LIBRARY
from agent.gpu.ranges import NOWHERE, Elsewhere

PART: Final = 256 << 20
"""Bytes of a file that are one piece of memory; ``native/device_memory/parts.c`` has the same."""
_PACKET: Final = 1 << 12
_START_SECONDS: Final = 1.0
"""How long a restore waits for the first part, when it has nothing else to do: a large model is read in that."""
_STALLED_SECONDS: Final = 5.0
"""How long it waits for the next one."""
_CONTEXT: Final = 1 << 30
"""Device memory of the process that fills."""
_ROOMS: Final = Path(__file__).parents[2]
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Part:
    """A part of one of several files."""

    file: int
    """Which of them."""
    offset: int
    size: int


@dataclass(frozen=True)
class Filled:
    """Device memory that holds a part of a file."""

    part: Part
    descriptor: int
    buffer: int
    """Number of the memory: what comes with that number later is in the same."""
    size: int
    """Bytes of that memory: no fewer than the part has."""


@dataclass(frozen=True)
class Came:
    """What came of one order."""

    since: float
    """When it was given, by the monotonic clock."""
    until: float
    """When its last part was on the card."""
    bytes: int
    """That were taken from there."""


def share_room(wanted: Sequence[int], spare: int) -> list[int]:
    """Return how much device memory each process's parts may take before they are in its own.

    Args:
        wanted: bytes that all parts of each would take.
        spare: device memory that is free there and will not be the worker's.
    """
    room = max(0, spare - _CONTEXT)
    shares = [min(own, room * own // max(1, sum(wanted))) for own in wanted]
    return [share if share >= min(own, PART) else 0 for share, own in zip(shares, wanted, strict=True)]


def room_of(parts: Sequence[Part]) -> int:
    """Return the device memory that parts take at once: each as much as the largest, also the last one of a file."""
    return len(parts) * max((part.size for part in parts), default=0)


def plan_parts(sizes: Sequence[int]) -> list[Part]:
    """Cut files into parts, in the order in which a worker's memory was saved: the first of each file, then the second.

    Args:
        sizes: of the files.
    """
    return [
        Part(file, offset, min(PART, size - offset))
        for offset in range(0, max(sizes, default=0), PART)
        for file, size in enumerate(sizes)
        if offset < size
    ]


class Prefetch(Protocol):
    """Parts of one process's files, on their way to the card; its holder closes it."""

    def filled(self, seconds: float) -> Iterator[Filled]:
        """Yield what is on the card, as it comes; a descriptor is the caller's until the next one.

        Ends when all parts came, when one could not be filled, when they come too slowly, or after that time.
        """
        ...

    def done(self, filled: Filled, *, copied: bool) -> None:
        """Have the memory of a part filled again: its bytes are where they belong, or are to be read from the file."""
        ...

    def close(self) -> None:
        """Let go of what was not taken; the card's memory is free in a moment."""
        ...

    def came(self) -> Came:
        """Say what came of it so far."""
        ...


class Prefetcher(Protocol):
    """Reads files into device memory."""

    def prepare(self) -> None:
        """Start what takes a moment: there is soon something to do."""
        ...

    def start(
        self,
        device: str,
        files: Sequence[int],
        parts: Sequence[Part],
        room: int,
        *,
        keeps: bool,
        elsewhere: Elsewhere = NOWHERE,
    ) -> Prefetch:
        """Begin to fill parts, in their order; the descriptors may be closed then.

        Args:
            device: UUID of the card.
            files: that the parts are of.
            parts: what to fill.
            room: bytes of device memory that it may take.
            keeps: whether the files may be kept open for the next restore, which then is faster.
            elsewhere: what of the files is in others.
        """
        ...


class NoPrefetcher:
    """What a node without GPUs has."""

    def prepare(self) -> None:
        """See ``Prefetcher``."""

    def start(self, *_: object, **__: object) -> Prefetch:
        """See ``Prefetcher``."""
        return self

    def filled(self, seconds: float) -> Iterator[Filled]:  # noqa: ARG002
        """See ``Prefetch``."""
        return iter(())

    def done(self, filled: Filled, *, copied: bool) -> None:
        """See ``Prefetch``."""

    def close(self) -> None:
        """See ``Prefetch``."""

    def came(self) -> Came:
        """See ``Prefetch``."""
        return Came(0.0, 0.0, 0)


class ResidentPrefetcher:
    """The real one: a process that keeps a context on each GPU that it was asked for.

    Args:
        find_library: asked for libcuda when the process is started.
        budget: bytes of page cache that may stay registered with the driver.
    """

    def __init__(self, find_library: Callable[[], str] = lambda: LIBRARY, budget: int = 0) -> None:
        self._find_library = find_library
        self._budget = budget
        self._lock = threading.Lock()
        self._process: _Process | None = None

    def prepare(self) -> None:
        """See ``Prefetcher``."""
        self._running()

    def start(
        self,
        device: str,
        files: Sequence[int],
        parts: Sequence[Part],
        room: int,
        *,
        keeps: bool,
        elsewhere: Elsewhere = NOWHERE,
    ) -> Prefetch:
        """See ``Prefetcher``."""
        keeps = keeps and self._budget > 0 and not elsewhere
        return self._running().start({"device": device, "room": room, "keeps": keeps}, files, parts, elsewhere)

    @property
    def registered(self) -> int:
        """Bytes of page cache that are registered, as was last said: when all is, and when some is given up."""
        process = self._process
        return process.registered if process is not None else 0

    def close(self) -> None:
        """End the process."""
        with self._lock:
            if self._process is not None:
                self._process.end("closed")
                self._process = None

    def _running(self) -> "_Process":
        with self._lock:
            if self._process is None or not self._process.alive:
                self._process = _Process(self._find_library(), self._budget)
            return self._process


class _Order:
    """One request, and what came of it."""

    def __init__(self, process: "_Process", number: int, parts: Sequence[Part]) -> None:
        self._process = process
        self._number = number
        self._parts = parts
        self.buffer = max((part.size for part in parts), default=PART)
        """Bytes of each piece of memory that the parts pass through: as many as the largest has."""
        self._arrived = threading.Condition()
        self._waiting: list[Filled] = []
        self._ended = False
        self._closed = False
        self._has_started = False
        self._since = self._until = time.monotonic()
        self._taken = 0

    def filled(self, seconds: float) -> Iterator[Filled]:
        """See ``Prefetch``."""
        end = time.monotonic() + seconds
        while (filled := self._next(end)) is not None:
            try:
                yield filled
            finally:
                os.close(filled.descriptor)

    def _next(self, end: float) -> Filled | None:
        with self._arrived:
            patience = min(end - time.monotonic(), _STALLED_SECONDS if self._has_started else _START_SECONDS)
            self._arrived.wait_for(lambda: self._waiting or self._ended, max(0.0, patience))
            return self._waiting.pop(0) if self._waiting else None

    def done(self, filled: Filled, *, copied: bool) -> None:
        """See ``Prefetch``."""
        self._taken += filled.part.size if copied else 0
        self._process.send({"id": self._number, "done": filled.buffer})

    def close(self) -> None:
        """See ``Prefetch``."""
        with self._arrived:
            self._closed = True
            for filled in self._waiting:
                os.close(filled.descriptor)
            self._waiting.clear()
            is_over = self._ended
        if not is_over:
            self._process.send({"id": self._number})  # no more of it; what is being copied still comes
            with self._arrived:
                is_over = self._arrived.wait_for(lambda: self._ended, _STALLED_SECONDS)
        if not is_over:
            self._process.end("it does not stop copying")

    def came(self) -> Came:
        """See ``Prefetch``."""
        return Came(self._since, self._until, self._taken)

    def add(self, part: int, descriptor: int, buffer: int) -> None:
        """Take a part that is filled."""
        with self._arrived:
            if self._closed or not 0 <= part < len(self._parts):
                os.close(descriptor)
                return
            self._has_started = True
            self._until = time.monotonic()
            self._waiting.append(Filled(self._parts[part], descriptor, buffer, self.buffer))
            self._arrived.notify_all()

    def finish(self) -> None:
        """Know that no more will come."""
        with self._arrived:
            self._ended = True
            self._arrived.notify_all()


class _Process:
    """One resident process, and the thread that reads what it sends.

    That thread also starts it: the kernel ends the process with the thread that started it.
    """

    def __init__(self, library: str, budget: int) -> None:
        self.alive = True
        self.registered = 0
        self._ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._orders: dict[int, _Order] = {}
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        threading.Thread(
            target=self._serve, args=(library, budget, theirs), name="device-prefetch", daemon=True
        ).start()

    def start(
        self, wanted: dict[str, object], files: Sequence[int], parts: Sequence[Part], elsewhere: Elsewhere
    ) -> _Order:
        """Have parts filled."""
        number = next(self._numbers)
        order = _Order(self, number, parts)
        with self._lock:
            self._orders[number] = order
            alive = self.alive
        listed = [[part.file, part.offset, part.size] for part in parts]
        request = wanted | {"id": number, "parts": listed, "buffer": order.buffer, "files": len(files)}
        with elsewhere.table() as table:
            others = [*elsewhere.sources, table] if elsewhere else []
            if not alive or not self.send(request, [*files, *others]):
                order.finish()
        return order

    def end(self, why: str) -> None:
        """End the process, and with it all device memory that nothing else has."""
        logger.info("the process that fills device memory is ended", extra={"reason": why})
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.kill()
            self._process.wait()
        with suppress(OSError):
            self._ours.shutdown(socket.SHUT_RDWR)

    def send(self, request: dict[str, object], files: Sequence[int] = ()) -> bool:
        """Send a request; False if it cannot be."""
        try:
            socket.send_fds(self._ours, [json.dumps(request).encode()], list(files))
        except OSError as error:
            logger.warning("device memory is not filled ahead: %s", error)
            return False
        return True

    def _serve(self, library: str, budget: int, theirs: socket.socket) -> None:
        try:
            with theirs:
                self._process = subprocess.Popen(
                    [
                        sys.executable,
                        "-S",
                        "-m",
                        "agent.gpu.prefetcher",
                        library,
                        str(theirs.fileno()),
                        str(budget),
                    ],
                    stdin=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    pass_fds=[theirs.fileno()],
                    env={"PYTHONPATH": str(_ROOMS), "PATH": os.environ.get("PATH", "")},
                    cwd="/",
                )
            while self._take(*socket.recv_fds(self._ours, _PACKET, 1)[:2]):
                pass
        except (OSError, ValueError) as error:
            logger.warning("device memory is not filled ahead: %s", error)
        finally:
            with self._lock:
                self.alive = False
                orders, self._orders = self._orders, {}
            for order in orders.values():
                order.finish()
            self.end("it has ended")
            self._ours.close()

    def _take(self, packet: bytes, descriptors: Sequence[int]) -> bool:
        """Take one packet; False if it is the last."""
        if not packet:
            return False
        answer = json.loads(packet)
        if answer.get("error"):
            logger.warning("device memory is not filled ahead: %s", answer["error"])
        if "registered" in answer:
            self.registered = int(answer["registered"])
            words = {"bytes": self.registered, "refused": answer["refused"]}
            logger.info("page cache of artifacts is registered with the driver", extra=words)
        if "id" not in answer:
            return not answer.get("error")
        with self._lock:
            is_over = "error" in answer
            order = self._orders.pop(answer["id"], None) if is_over else self._orders.get(answer["id"])
        if order is not None and is_over:
            order.finish()
        elif order is not None and descriptors:
            order.add(int(answer["part"]), descriptors[0], int(answer["buffer"]))
        return True
