"""``python -m agent.gpu.ahead.prefetcher LIBRARY SOCKET BUDGET``: reads files onto cards, for processes to come.

A process of its own, with contexts on the GPUs: an error that spoils one must not spoil the helper that captures and
restores. Packets of JSON on a socket (``SOCK_SEQPACKET``; the number is its descriptor):

in, before an order with that number: ``{"id", "places": true}``, with the file that says where in the files is what
another worker lends; ``{"id", "segments": [[first, size], ...]}``, with its memory (``agent.gpu.ahead.lent``).
in, with the files' descriptors: ``{"id", "device", "parts": [[file, offset, size], ...], "buffer", "room", "keeps",
"sums", "files"}``: bytes of one piece of memory and of all that it may take; whether the files' page cache may stay
registered; whether their sums are to be taken; how many there are: descriptors behind those are of files that ranges of
them are in, the last of the table.
in, with memory of the process that the files belong to: ``{"id", "buffers"}``: how many, of ``buffer`` bytes each.
``{"id", "done": number}``: that one may be filled again. ``{"id"}``: no more of it.
out: ``{"id", "part": number, "buffer": number, "lent": bytes, "at"}``: that part is in that memory; so much of it came
from another worker; since when it was on the card. At its end ``{"id", "error": "", "lender"}``, or why parts are
missing, and why less came from that worker.
``{"registered": bytes, "refused", "summed", "unsummed"}``: of page cache, from now on, and why it is no more; of files,
so far, and why a card takes no sums.
The first packet out is ``{"error": ""}``, or why there is no driver. It ends with its agent.

What another worker lends is copied over the link between the cards, several times as fast as page cache, and compared
with sums of the files: it may have changed it. They are taken when no restore reads.
The first restore copies page cache by CPUs, as registering it first would make that restore wait; when it has its parts
the files are registered (within BUDGET, in bytes), and the next ones are copied by the cards alone.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

from agent.gpu.ahead.buffers import Buffer, Buffers
from agent.gpu.ahead.copier import Copier, Part
from agent.gpu.ahead.device import Card, Memories
from agent.gpu.ahead.handover import Handover, Staged
from agent.gpu.ahead.keeper import Keeper
from agent.gpu.ahead.lent import Lent, LentSegment
from agent.gpu.ahead.neighbour import Neighbour
from agent.gpu.driver import DriverError
from agent.gpu.ranges import RangesError
from linux import syscalls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from concurrent.futures import Future
    from typing import Any, Final

THREADS: Final = 16
"""That copy to one GPU; each has two slots of page-locked memory, 128 MiB together."""
COPIES: Final = 4
"""Of registered page cache that are on their way to one card: others have their memory made meanwhile."""
MOST_FILES: Final = 250
"""Descriptors with a request; the kernel passes 253."""
PACKET: Final = 1 << 17
"""Bytes of a request: some thousand parts."""


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
        self._keeper = Keeper(memories, budget, lambda **fields: connection.send(_packed(**fields)))
        self._orders: dict[int, _Order] = {}
        self._lent: dict[int, _Lending] = {}
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
                self._orders[request["id"]] = self._order(request)
                threading.Thread(target=self._serve, args=(request, files), daemon=True).start()
            elif "segments" in request or "places" in request:
                self._lent.setdefault(request["id"], _Lending()).add(request.get("segments"), files)
            elif (order := self._orders.get(request["id"])) is not None:
                order.hear(request, files)
            else:
                _close(files)

    def _order(self, request: dict[str, Any]) -> _Order:
        number, size = request["id"], request["buffer"]

        def say(staged: Staged, buffer: int) -> None:
            self._connection.send(_packed(id=number, part=staged.number, buffer=buffer, lent=staged.lent, at=staged.at))

        staging = Buffers(size, request["room"])
        return _Order(staging, Handover(staging, size, say))

    def _serve(self, request: dict[str, Any], files: Sequence[int]) -> None:
        """Fill all parts, several at once; the first that cannot be filled ends it, and those before it are there."""
        number, order = request["id"], self._orders[request["id"]]
        try:
            card = self._memories.card(request["device"])
            card.enter()
            own, others = files[: request["files"]], files[request["files"] :]
            with self._neighbour(number, card) as neighbour, self._keeper.held(own, others, neighbour) as sources:
                parts = (Part(part, sources[each[0]], *each[1:]) for part, each in enumerate(request["parts"]))
                errors = self._fill(card, order, parts)
                self._connection.send(_packed(id=number, error=errors[0] if errors else "", lender=_why(neighbour)))
                order.staging.free(card)
            if not errors and not others:
                self._keeper.keep(card, own, registers=request["keeps"], sums=request["sums"])
        except (DriverError, RuntimeError, RangesError) as error:
            self._connection.send(_packed(id=number, error=str(error)))
            if (unused := self._lent.pop(number, None)) is not None:
                unused.lent().close()
        del self._orders[number]
        order.handover.close()
        _close(files)

    @contextmanager
    def _neighbour(self, number: int, card: Card) -> Iterator[Neighbour | None]:
        """Yield what another worker lends for an order; its memory is let go of then."""
        lending = self._lent.pop(number, None)
        neighbour = Neighbour(card, lending.lent()) if lending is not None else None
        try:
            yield neighbour
        finally:
            if neighbour is not None:
                neighbour.close()

    def _fill(self, card: Card, order: _Order, parts: Iterator[Part]) -> Sequence[str]:
        """Fill parts and hand them over, while more are wanted; return what went wrong."""
        mover = threading.Thread(target=order.handover.run, args=(card,), daemon=True)
        mover.start()
        errors = self._stage(card, order, parts)
        order.handover.complete()
        mover.join()
        return [*errors, order.handover.error] if order.handover.error else errors

    def _stage(self, card: Card, order: _Order, parts: Iterator[Part]) -> list[str]:
        """Fill parts while more are wanted; return what went wrong."""
        threads = self._threads.setdefault(card, ThreadPoolExecutor(THREADS, thread_name_prefix="prefetch"))
        turns = threading.Semaphore(THREADS + COPIES)
        work: list[Future[None]] = []
        errors: list[str] = []
        for part in parts:
            turns.acquire()
            try:
                buffer = order.staging.take(card)
            except DriverError as error:
                errors.append(str(error))
                break
            if buffer is None:
                break
            work.append(threads.submit(self._fill_part, card, order, part, buffer))
            work[-1].add_done_callback(lambda _: turns.release())
        return [*(str(failure) for each in work if (failure := each.exception())), *errors]

    def _fill_part(self, card: Card, order: _Order, part: Part, buffer: Buffer) -> None:
        try:
            card.enter()
            lent = self._copier(card).copy(part, buffer.memory.at)
            order.handover.add(Staged(part.number, part.size, buffer, lent, time.monotonic()))
        except (OSError, DriverError):
            order.staging.end()
            raise

    def _copier(self, card: Card) -> Copier:
        """Return this thread's own; it is of one card's threads."""
        if not hasattr(self._own, "copier"):
            turn = self._turns.setdefault(card, threading.Semaphore(COPIES))
            self._own.copier = Copier(card, turn, self._keeper.summer)
        copier: Copier = self._own.copier
        return copier


@dataclass(frozen=True)
class _Order:
    """Parts of one process's files: on their way to the card, and from there to the process."""

    staging: Buffers
    handover: Handover

    def hear(self, request: dict[str, Any], files: Sequence[int]) -> None:
        """Take what came for it."""
        if "buffers" in request:
            self.handover.open(files)
        elif "done" in request:
            self.handover.done(request["done"])
        else:
            self.staging.end()
            self.handover.end()


@dataclass
class _Lending:
    """What came of what another worker lends, before the order that it is for."""

    segments: list[LentSegment] = field(default_factory=list)
    places: int = -1

    def add(self, segments: Sequence[tuple[int, int]] | None, files: Sequence[int]) -> None:
        """Take some of it; the file of places comes first, and alone."""
        if segments is None:
            (self.places,) = files
        else:
            found = zip(segments, files, strict=True)
            self.segments += [LentSegment(first, size, descriptor) for (first, size), descriptor in found]

    def lent(self) -> Lent:
        return Lent(self.segments, self.places)


def _why(neighbour: Neighbour | None) -> str:
    return neighbour.refused if neighbour is not None else ""


def _close(files: Sequence[int]) -> None:
    for file in files:
        os.close(file)


def _packed(**fields: object) -> bytes:
    return json.dumps(fields).encode()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
