"""Starts ``agent.criu.nsenter``, and has some wait for the next restores.

An interpreter and its modules take 15 ms, with those that change files 40, and a restore would wait for them.
"""

import logging
import os
import queue
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from agent.criu import nsenter

_ROOMS: Final = Path(__file__).parents[2]
_GIVE_SECONDS: Final = 10.0
"""How long one may take to read its request: of a long one the kernel holds a part alone."""
_END_SECONDS: Final = 5.0
_MOST: Final = 8
_CORES_EACH: Final = 4
logger = logging.getLogger(__name__)


class Helper:
    """A process that waits for one request. It dies with the thread that started it."""

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair()
        self._socket.settimeout(_GIVE_SECONDS)
        with theirs:
            self.process = subprocess.Popen(
                # By its path: finding a module by its name loads a fourth more.
                [sys.executable, "-S", "-P", nsenter.__file__, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                env={"PYTHONPATH": str(_ROOMS)},
                cwd="/",
            )

    def give(self, request: bytes, descriptors: Sequence[int]) -> None:
        """Have it carry out a marshalled request.

        Args:
            request: names its descriptors in this order.
            descriptors: it gets copies of them, with the same numbers.

        Raises:
            OSError: it has ended, or does not read; nothing of it is left.
        """
        try:
            self._socket.sendall(struct.pack(nsenter.HEAD, len(request), len(descriptors)))
            for at in range(0, len(descriptors), nsenter.AT_ONCE):
                socket.send_fds(self._socket, [b"d"], descriptors[at : at + nsenter.AT_ONCE])
            self._socket.sendall(request)
        except OSError:
            self.end()
            raise
        self._socket.close()

    def end(self) -> None:
        """End it, if it still waits."""
        self._socket.close()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(_END_SECONDS)
            return
        self.process.kill()
        self.process.wait()


class Helpers:
    """Has helpers carry out requests: new ones, or such as wait, once ``keep`` was called."""

    def __init__(self) -> None:
        self._waiting: queue.SimpleQueue[Helper] = queue.SimpleQueue()
        self._orders: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._kept = 0
        self._keeper: threading.Thread | None = None

    def keep(self, count: int = 0) -> None:
        """Have so many wait from now on; 0: one for each four cores, 8 at most. Each takes 6 MiB."""
        self._kept = count or max(1, min(_MOST, (os.cpu_count() or 1) // _CORES_EACH))
        # A thread of its own starts them: the one that asks may end before a helper is needed.
        self._keeper = threading.Thread(target=self._start_ordered, name="helpers", daemon=True)
        self._keeper.start()
        self.another()

    def start(self, request: bytes, descriptors: Sequence[int]) -> subprocess.Popen[bytes]:
        """Have a helper carry out a request, see ``Helper.give``; return its process.

        The calling thread must live until that has ended.
        """
        with suppress(queue.Empty):
            waited = self._waiting.get_nowait()
            with suppress(OSError):  # something ended it: the node's memory was short, for example
                waited.give(request, descriptors)
                return waited.process
        fresh = Helper()
        fresh.give(request, descriptors)
        return fresh.process

    def another(self) -> None:
        """Have as many wait as are to be kept: the processor is free for them now."""
        if self._keeper is not None:
            self._orders.put(True)

    def close(self) -> None:
        """End those that wait."""
        if self._keeper is not None:
            self._orders.put(False)
            self._keeper.join()
            self._keeper = None
        with suppress(queue.Empty):
            while True:
                self._waiting.get_nowait().end()

    def _start_ordered(self) -> None:
        while self._orders.get():
            try:
                while self._waiting.qsize() < self._kept:
                    self._waiting.put(Helper())
            except OSError as error:  # the next request starts its own, and says so if it cannot either
                logger.warning("no helper waits for the next restore", extra={"reason": os.strerror(error.errno or 0)})
