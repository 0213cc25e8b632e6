"""The process that fills device memory, from the agent's side: orders, and what comes of them.

``agent.gpu.ahead.prefetcher`` is the other end, and says what goes over the socket between them.
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
from pathlib import Path
from typing import Final

from agent.gpu.ahead.lent import Lent
from agent.gpu.ahead.prefetch import PART, Came, Filled, Lender, Part, Prefetch
from agent.gpu.driver import LIBRARY
from agent.gpu.ranges import NOWHERE, Elsewhere

_PACKET: Final = 1 << 12
_MOST_WITH_ONE: Final = 200
"""Descriptors that go with one packet; the kernel passes 253."""
_START_SECONDS: Final = 1.0
"""How long a restore waits for the first part, when it has nothing else to do: a large model is read in that."""
_STALLED_SECONDS: Final = 5.0
"""How long it waits for the next one."""
_ROOMS: Final = Path(__file__).parents[3]
logger = logging.getLogger(__name__)


class ResidentPrefetcher:
    """The real one: a process that keeps a context on each GPU that it was asked for.

    Args:
        find_library: asked for libcuda when the process is started.
        budget: bytes of page cache that may stay registered with the driver.
        sums: whether those of files are taken, without which nothing that a worker lends is used.
    """

    def __init__(
        self, find_library: Callable[[], str] = lambda: LIBRARY, budget: int = 0, *, sums: bool = False
    ) -> None:
        self._find_library = find_library
        self._budget = budget
        self._sums = sums
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
        lender: Lender | None = None,
    ) -> Prefetch:
        """See ``Prefetcher``."""
        stays = keeps and self._budget > 0 and not elsewhere
        sums = keeps and self._sums
        wanted = {"device": device, "room": room, "keeps": stays, "sums": sums}
        process = self._running()
        order = process.order(parts)
        if lender is None or elsewhere or not sums:
            order.begin(lambda: process.send_order(order, wanted, files, elsewhere))
        else:
            copies = [os.dup(file) for file in files]
            threading.Thread(target=_borrow, args=(process, order, wanted, copies, lender), daemon=True).start()
        return order

    @property
    def registered(self) -> int:
        """Bytes of page cache that are registered, as was last said: when all is, and when some is given up."""
        process = self._process
        return process.registered if process is not None else 0

    @property
    def summed(self) -> int:
        """Bytes of files whose sums are known, as was last said: another worker's memory is compared with those."""
        process = self._process
        return process.summed if process is not None else 0

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


def _borrow(
    process: "_Process", order: "_Order", wanted: dict[str, object], files: Sequence[int], lender: Lender
) -> None:
    """Ask for another worker's memory, then have the parts filled: from that, or without it."""
    lent = None
    try:
        lent = lender()
        order.begin(
            lambda: (
                (lent is None or process.send_lent(order.number, lent))
                and process.send_order(order, wanted, files, NOWHERE)
            )
        )
    except BaseException:
        order.finish()
        raise
    finally:
        for file in files:
            os.close(file)
        if lent is not None:
            lent.close()


class _Order:
    """One request, and what came of it."""

    def __init__(self, process: "_Process", number: int, parts: Sequence[Part]) -> None:
        self._process = process
        self.number = number
        self.parts = parts
        self.buffer = max((part.size for part in parts), default=PART)
        """Bytes of each piece of memory that the parts pass through: as many as the largest has."""
        self._arrived = threading.Condition()
        self._waiting: list[Filled] = []
        self._ended = False
        self._closed = False
        self._is_known = self._is_given = False
        """Whether the process has it, and buffers to copy it into."""
        self._has_started = False
        self._since = self._until = time.monotonic()
        self._taken = self._lent = 0

    def begin(self, send: Callable[[], bool]) -> None:
        """Send it, unless it was closed before: what is filled would never be taken."""
        with self._arrived:
            self._is_known = not self._closed and send()
            self._ended = self._ended or not self._is_known
            self._arrived.notify_all()

    def filled(self, buffers: Sequence[int], seconds: float) -> Iterator[Filled]:
        """See ``Prefetch``."""
        end = time.monotonic() + seconds
        if not buffers or not self._has_given(buffers):
            return
        while (filled := self._next(end)) is not None:
            yield filled

    def _has_given(self, buffers: Sequence[int]) -> bool:
        """Give buffers to the process once it knows the order; False if it does not come to know it."""
        if self._is_given:
            return True
        with self._arrived:
            self._arrived.wait_for(lambda: self._is_known or self._ended, _START_SECONDS)
            is_known = self._is_known
        request: dict[str, object] = {"id": self.number, "buffers": len(buffers)}
        self._is_given = is_known and self._process.send(request, buffers)
        return self._is_given

    def _next(self, end: float) -> Filled | None:
        with self._arrived:
            patience = min(end - time.monotonic(), _STALLED_SECONDS if self._has_started else _START_SECONDS)
            self._arrived.wait_for(lambda: self._waiting or self._ended, max(0.0, patience))
            return self._waiting.pop(0) if self._waiting else None

    def done(self, filled: Filled, *, copied: bool) -> None:
        """See ``Prefetch``."""
        if copied:
            self._taken += filled.part.size
            self._lent += filled.lent
        self._process.send({"id": self.number, "done": filled.buffer})

    def close(self) -> None:
        """See ``Prefetch``."""
        with self._arrived:
            self._closed = True
            self._waiting.clear()
            is_over = self._ended
        if not is_over:
            self._process.send({"id": self.number})  # no more of it; what is being copied still comes
            with self._arrived:
                is_over = self._arrived.wait_for(lambda: self._ended, _STALLED_SECONDS)
        if not is_over:
            self._process.end("it does not stop copying")

    def came(self) -> Came:
        """See ``Prefetch``."""
        return Came(self._since, self._until, self._taken, self._lent)

    def add(self, part: int, buffer: int, lent: int, at: float) -> None:
        """Take a part that is in a buffer of the process; ``at``: when it was on the card."""
        with self._arrived:
            if self._closed:
                return
            self._has_started = True
            self._until = max(self._until, at)
            self._waiting.append(Filled(self.parts[part], buffer, lent))
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
        self.registered = self.summed = 0
        self._ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._orders: dict[int, _Order] = {}
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        threading.Thread(
            target=self._serve, args=(library, budget, theirs), name="device-prefetch", daemon=True
        ).start()

    def order(self, parts: Sequence[Part]) -> _Order:
        """Return a new order; it is sent by ``send_order``."""
        order = _Order(self, next(self._numbers), parts)
        with self._lock:
            self._orders[order.number] = order
        return order

    def send_order(self, order: _Order, wanted: dict[str, object], files: Sequence[int], elsewhere: Elsewhere) -> bool:
        """Have parts filled; False if nothing will come."""
        listed = [[part.file, part.offset, part.size] for part in order.parts]
        request = wanted | {"id": order.number, "parts": listed, "buffer": order.buffer, "files": len(files)}
        with elsewhere.table() as table:
            others = [*elsewhere.sources, table] if elsewhere else []
            return self.alive and self.send(request, [*files, *others])

    def send_lent(self, number: int, lent: Lent) -> bool:
        """Send what another worker lends, before the order that it is for; False if it cannot be."""
        return self.send({"id": number, "places": True}, [lent.places]) and all(
            self.send(
                {"id": number, "segments": [[each.first, each.size] for each in some]},
                [each.descriptor for each in some],
            )
            for first in range(0, len(lent.segments), _MOST_WITH_ONE)
            for some in [lent.segments[first : first + _MOST_WITH_ONE]]
        )

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
                        "agent.gpu.ahead.prefetcher",
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
            while self._take(self._ours.recv(_PACKET)):
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

    def _take(self, packet: bytes) -> bool:
        """Take one packet; False if it is the last."""
        if not packet:
            return False
        answer = json.loads(packet)
        if answer.get("error"):
            logger.warning("device memory is not filled ahead: %s", answer["error"])
        if answer.get("lender"):
            logger.info("another worker's device memory cannot be read: %s", answer["lender"])
        if "registered" in answer:
            self.registered, self.summed = int(answer["registered"]), int(answer["summed"])
            words = {"bytes": self.registered, "refused": answer["refused"], "summed": self.summed}
            logger.info("page cache of artifacts is registered with the driver", extra=words)
            if answer["unsummed"]:
                logger.warning("no worker is lent another's device memory: no sums: %s", answer["unsummed"])
        if "id" not in answer:
            return not answer.get("error")
        with self._lock:
            is_over = "error" in answer
            order = self._orders.pop(answer["id"], None) if is_over else self._orders.get(answer["id"])
        if order is not None and is_over:
            order.finish()
        elif order is not None:
            order.add(int(answer["part"]), int(answer["buffer"]), int(answer["lent"]), float(answer["at"]))
        return True
