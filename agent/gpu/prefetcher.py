"""``python -m agent.gpu.prefetcher LIBRARY SOCKET``: reads files into device memory that another process can take.

A process of its own, with contexts on the GPUs: an error that spoils one must not spoil the helper that captures and
restores. Packets of JSON on a socket (``SOCK_SEQPACKET``; the number is its descriptor):

in, with the files' descriptors: ``{"id", "device", "parts": [[file, offset, size], ...]}``; ``{"id"}``: no more of it.
out, with a part's memory: ``{"id", "part": number}``; at its end ``{"id", "error": ""}``, or why parts are missing.
The first packet out is ``{"error": ""}``, or why there is no driver. It ends with its agent.
"""

from __future__ import annotations

import ctypes
import json
import mmap
import os
import signal
import socket
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

from agent.gpu.device import Card, Memories
from agent.gpu.driver import DriverError
from linux import syscalls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, Final

THREADS: Final = 16
"""That copy to one GPU; each has two slots of page-locked memory, 128 MiB together."""
SLOT: Final = 4 << 20
PACKET: Final = 1 << 17
"""Bytes of a request: some thousand parts."""


def main(library: str, number: int) -> int:
    """Serve until the socket is closed; 1 if there is no driver."""
    syscalls.die_with_parent(signal.SIGKILL)
    with socket.socket(fileno=number) as connection:
        try:
            memories = Memories(library)
        except (OSError, DriverError) as error:
            connection.send(_packed(error=str(error)))
            return 1
        connection.send(_packed(error=""))
        _Service(memories, connection).run()
    return 0


class _Service:
    def __init__(self, memories: Memories, connection: socket.socket) -> None:
        self._memories = memories
        self._connection = connection
        self._unwanted: set[int] = set()
        self._threads: dict[Card, ThreadPoolExecutor] = {}
        """Of each card some: one's bus is another's no hindrance."""
        self._own = threading.local()

    def run(self) -> None:
        while True:
            packet, files, _, _ = socket.recv_fds(self._connection, PACKET, THREADS)
            if not packet:
                return
            request = json.loads(packet)
            if "parts" in request:
                threading.Thread(target=self._serve, args=(request, files), daemon=True).start()
            else:
                self._unwanted.add(request["id"])

    def _serve(self, request: dict[str, Any], files: Sequence[int]) -> None:
        """Fill all parts, several at once; the first that cannot be filled ends it, and those before it are there."""
        try:
            card = self._memories.card(request["device"])
            threads = self._threads.setdefault(card, ThreadPoolExecutor(THREADS, thread_name_prefix="prefetch"))
            work = [
                threads.submit(self._fill, card, request["id"], number, files[file], offset, size)
                for number, (file, offset, size) in enumerate(request["parts"])
            ]
            errors = [str(error) for each in work if (error := each.exception())]
        except (DriverError, RuntimeError) as error:
            errors = [str(error)]
        for file in files:
            os.close(file)
        self._connection.send(_packed(id=request["id"], error=errors[0] if errors else ""))
        self._unwanted.discard(request["id"])

    def _fill(self, card: Card, request: int, number: int, file: int, offset: int, size: int) -> None:
        if request in self._unwanted:
            return
        try:
            card.enter()
            memory = card.allocate(size)
            try:
                self._copier(card).copy(file, offset, size, memory.at)
                descriptor = card.export(memory)
            finally:
                card.free(memory)
            try:
                socket.send_fds(self._connection, [_packed(id=request, part=number)], [descriptor])
            finally:
                os.close(descriptor)
        except (OSError, DriverError):
            self._unwanted.add(request)
            raise

    def _copier(self, card: Card) -> _Copier:
        """Return this thread's own; it is of one card's threads."""
        if not hasattr(self._own, "copier"):
            self._own.copier = _Copier(card)
        copier: _Copier = self._own.copier
        return copier


class _Copier:
    """Copies from a file to a card, through two slots of locked memory that a thread keeps."""

    def __init__(self, card: Card) -> None:
        self._card = card
        memory = mmap.mmap(-1, 2 * SLOT)
        self._at = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        card.lock_pages(self._at, 2 * SLOT)
        view = memoryview(memory)
        self._slots = [view[:SLOT], view[SLOT:]]
        self._streams = [card.stream(), card.stream()]

    def copy(self, file: int, offset: int, size: int, to: int) -> None:
        """Copy ``size`` bytes of a file from an offset on to a device address.

        Raises:
            OSError: the file is too short, or cannot be read.
            DriverError: the card does not take it.
        """
        for number, done in enumerate(range(0, size, SLOT)):
            slot, length = number % 2, min(SLOT, size - done)
            self._card.wait(self._streams[slot])
            _read(file, self._slots[slot][:length], offset + done)
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
    sys.exit(main(sys.argv[1], int(sys.argv[2])))
