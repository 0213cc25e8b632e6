"""``python -m agent.gpu.prefetcher LIBRARY SOCKET BUDGET``: reads files into device memory that others can take.

A process of its own, with contexts on the GPUs: an error that spoils one must not spoil the helper that captures and
restores. Packets of JSON on a socket (``SOCK_SEQPACKET``; the number is its descriptor):

in, with the files' descriptors: ``{"id", "device", "parts": [[file, offset, size], ...], "buffer", "room", "keeps",
"files"}``: bytes of one piece of memory and of all that it may take, whether the files' page cache may stay registered,
and how many files there are: descriptors behind those are of files that ranges of them are in, the last of the table.
``{"id", "done": buffer}``: that memory may be filled again. ``{"id"}``: no more of it.
out, with a part's memory: ``{"id", "part": number, "buffer": number}``; at its end ``{"id", "error": ""}``, or why
parts are missing.
``{"registered": bytes, "refused"}``: of page cache, from now on, and why it is no more.
The first packet out is ``{"error": ""}``, or why there is no driver. It ends with its agent.

The first restore copies page cache by CPUs, as registering it first would make that restore wait; when it has its parts
the files are registered (within BUDGET, in bytes), and the next ones are copied by the cards alone.
"""

from __future__ import annotations

import ctypes
import json
import mmap
import os
import queue
import signal
import socket
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

from agent.gpu.buffers import Buffer, Buffers
from agent.gpu.device import Card, Memories
from agent.gpu.driver import DriverError
from agent.gpu.ranges import STORED, Ranges, RangesError, parse_ranges
from agent.gpu.registered import Registered, RegisteredFiles, is_short
from linux import syscalls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from concurrent.futures import Future
    from typing import Any, Final

THREADS: Final = 16
"""That copy to one GPU; each has two slots of page-locked memory, 128 MiB together."""
SLOT: Final = 4 << 20
COPIES: Final = 4
"""Of registered page cache that are on their way to one card: others have their memory made meanwhile."""
MOST_FILES: Final = 250
"""Descriptors with a request; the kernel passes 253."""
PACKET: Final = 1 << 17
"""Bytes of a request: some thousand parts."""
REVIEW_SECONDS: Final = 10.0
"""How often is looked for deleted files, and for memory that the node needs."""


def main(library: str, number: int, budget: int) -> int:
    """Serve until the socket is closed; 1 if there is no driver."""
    syscalls.die_with_parent(signal.SIGKILL)
    with socket.socket(fileno=number) as connection:
        try:
            memories = Memories(library)
        except (OSError, DriverError) as error:
            connection.send(_packed(error=str(error)))
            return 1
        connection.send(_packed(error=""))
        _Service(memories, connection, budget).run()
    return 0


class _Service:
    def __init__(self, memories: Memories, connection: socket.socket, budget: int) -> None:
        self._memories = memories
        self._connection = connection
        self._keeper = _Keeper(memories, budget, connection)
        self._orders: dict[int, Buffers] = {}
        self._threads: dict[Card, ThreadPoolExecutor] = {}
        """Of each card some: one's bus is another's no hindrance."""
        self._turns: dict[Card, threading.Semaphore] = {}
        self._own = threading.local()

    def run(self) -> None:
        while True:
            packet, files, _, _ = socket.recv_fds(self._connection, PACKET, MOST_FILES)
            if not packet:
                return
            request = json.loads(packet)
            if "parts" in request:
                self._orders[request["id"]] = Buffers(request["buffer"], request["room"])
                threading.Thread(target=self._serve, args=(request, files), daemon=True).start()
            elif (buffers := self._orders.get(request["id"])) is None:
                continue
            elif "done" in request:
                buffers.done(request["done"])
            else:
                buffers.end()

    def _serve(self, request: dict[str, Any], files: Sequence[int]) -> None:
        """Fill all parts, several at once; the first that cannot be filled ends it, and those before it are there."""
        number, buffers = request["id"], self._orders[request["id"]]
        try:
            card = self._memories.card(request["device"])
            card.enter()
            own, others = files[: request["files"]], files[request["files"] :]
            with self._keeper.held(own, others) as sources:
                parts = (_Part(number, part, sources[each[0]], *each[1:]) for part, each in enumerate(request["parts"]))
                errors = self._fill(card, buffers, parts)
                self._connection.send(_packed(id=number, error=errors[0] if errors else ""))
                buffers.free(card)
            if request["keeps"] and not errors:
                self._keeper.keep(card, own)
        except (DriverError, RuntimeError, RangesError) as error:
            self._connection.send(_packed(id=number, error=str(error)))
        for file in files:
            os.close(file)
        del self._orders[number]

    def _fill(self, card: Card, buffers: Buffers, parts: Iterator[_Part]) -> Sequence[str]:
        """Fill parts while more are wanted; return what went wrong."""
        threads = self._threads.setdefault(card, ThreadPoolExecutor(THREADS, thread_name_prefix="prefetch"))
        turns = threading.Semaphore(THREADS + COPIES)
        work: list[Future[None]] = []
        errors: list[str] = []
        for part in parts:
            turns.acquire()
            try:
                buffer = buffers.take(card)
            except DriverError as error:
                errors.append(str(error))
                break
            if buffer is None:
                break
            work.append(threads.submit(self._fill_part, card, buffers, part, buffer))
            work[-1].add_done_callback(lambda _: turns.release())
        return [*(str(failure) for each in work if (failure := each.exception())), *errors]

    def _fill_part(self, card: Card, buffers: Buffers, part: _Part, buffer: Buffer) -> None:
        try:
            card.enter()
            self._copier(card).copy(part, buffer.memory.at)
            packet = _packed(id=part.order, part=part.number, buffer=buffer.number)
            socket.send_fds(self._connection, [packet], [buffer.descriptor])
        except (OSError, DriverError):
            buffers.end()
            raise

    def _copier(self, card: Card) -> _Copier:
        """Return this thread's own; it is of one card's threads."""
        if not hasattr(self._own, "copier"):
            self._own.copier = _Copier(card, self._turns.setdefault(card, threading.Semaphore(COPIES)))
        copier: _Copier = self._own.copier
        return copier


@dataclass(frozen=True)
class _Source:
    """A file to copy from."""

    descriptor: int
    registered: Registered | None
    number: int = 0
    ranges: Ranges | None = None
    """What of it is in others; None if nothing is."""
    others: Sequence[int] = ()
    """Descriptors of those."""

    def read(self, into: memoryview, offset: int) -> None:
        """Read what is at a place of the whole file.

        Raises:
            OSError: a file is too short, or cannot be read.
        """
        if self.ranges is None:
            _read(self.descriptor, into, offset)
            return
        for source, at, length in self.ranges.pieces(self.number, offset, len(into)):
            _read(self.descriptor if source == STORED else self.others[source], into[:length], at)
            into = into[length:]


def _sources(files: Sequence[int], others: Sequence[int]) -> list[_Source]:
    """Return what to copy from, if not all of it is in the files themselves."""
    *sources, table = others
    sizes = [[os.fstat(each).st_size for each in of] for of in (files, sources)]
    ranges = Ranges(parse_ranges(os.pread(table, os.fstat(table).st_size, 0)), *sizes)
    return [_Source(file, None, number, ranges, sources) for number, file in enumerate(files)]


@dataclass(frozen=True)
class _Part:
    order: int
    number: int
    source: _Source
    offset: int
    size: int


class _Keeper:
    """Has files registered by a thread of its own: no restore waits for that."""

    def __init__(self, memories: Memories, budget: int, connection: socket.socket) -> None:
        self._files = RegisteredFiles(memories, budget, is_short, self._await_restores)
        self._connection = connection
        self._restores = 0
        self._changed = threading.Condition()
        self._waiting: queue.Queue[tuple[Card, int]] = queue.Queue()
        threading.Thread(target=self._run, daemon=True).start()

    @contextmanager
    def held(self, files: Sequence[int], others: Sequence[int]) -> Iterator[Sequence[_Source]]:
        """Yield the files, with what is registered of them and stays so meanwhile.

        Raises:
            RangesError: the table that is the last of the *others* is wrong.
        """
        sources = _sources(files, others) if others else [_Source(file, self._files.hold(file)) for file in files]
        self._count(1)
        try:
            yield sources
        finally:
            self._count(-1)
            for source in sources:
                if source.registered is not None:
                    self._files.let_go(source.registered)

    def keep(self, card: Card, files: Sequence[int]) -> None:
        """Have files registered; the descriptors may be closed then."""
        for file in files:
            self._waiting.put((card, os.dup(file)))

    def _count(self, change: int) -> None:
        with self._changed:
            self._restores += change
            self._changed.notify_all()

    def _await_restores(self) -> None:
        """Wait until no restore reads: beside this its calls of the driver take several times as long."""
        with self._changed:
            self._changed.wait_for(lambda: not self._restores)

    def _run(self) -> None:
        """Register what waits; say what came of it when nothing waits any more."""
        before, refused = 0, ""
        while True:
            try:
                refused = self._next() or refused
            except (OSError, DriverError) as error:
                refused = str(error)
            if not self._waiting.empty():
                continue
            if (now := self._files.bytes) != before or refused:
                self._connection.send(_packed(registered=now, refused=refused))
            before, refused = now, ""

    def _next(self) -> str:
        try:
            card, file = self._waiting.get(timeout=REVIEW_SECONDS if self._files.bytes else None)
        except queue.Empty:
            self._files.review()
            return ""
        try:
            card.enter()
            return self._files.keep(file)
        finally:
            os.close(file)


class _Copier:
    """Copies from a file to a card: from page cache that is registered, else through two slots of locked memory."""

    def __init__(self, card: Card, turn: threading.Semaphore) -> None:
        self._card = card
        self._turn = turn
        memory = mmap.mmap(-1, 2 * SLOT)
        self._at = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        card.lock_pages(self._at, 2 * SLOT)
        view = memoryview(memory)
        self._slots = [view[:SLOT], view[SLOT:]]
        self._streams = [card.stream(), card.stream()]

    def copy(self, part: _Part, to: int) -> None:
        """Copy a part of a file to a device address.

        Raises:
            OSError: the file is too short, or cannot be read.
            DriverError: the card does not take it.
        """
        registered = part.source.registered
        if registered is None or part.offset + part.size > registered.size:
            self._copy_by_slots(part.source, part.offset, part.size, to)
            return
        with self._turn:
            for at, length in registered.pieces(part.offset, part.size):
                self._card.copy(to, at, length, self._streams[0])
                to += length
            self._card.wait(self._streams[0])

    def _copy_by_slots(self, source: _Source, offset: int, size: int, to: int) -> None:
        for number, done in enumerate(range(0, size, SLOT)):
            slot, length = number % 2, min(SLOT, size - done)
            self._card.wait(self._streams[slot])
            source.read(self._slots[slot][:length], offset + done)
            self._card.copy(to + done, self._at + slot * SLOT, length, self._streams[slot])
        for stream in self._streams:
            self._card.wait(stream)


def _read(file: int, into: memoryview, offset: int) -> None:
    while into:
        done = os.preadv(file, [into], offset)
        if not done:
            raise OSError("a file of device memory was cut short")
        into, offset = into[done:], offset + done


def _packed(**fields: object) -> bytes:
    return json.dumps(fields).encode()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
