"""Talks to the preload library in a CUDA process that takes its device memory out of the process, and puts it back.

docs/device-memory.md has the protocol. The library is in the worker's process, so what it says is hostile until it is
checked: it may spoil its own artifact, and nothing else.
"""

import errno
import os
import select
import signal
import socket
import struct
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from agent.container.network import in_network
from agent.gpu.ahead.lent import MOST_SEGMENTS, Lent, LentSegment
from agent.gpu.ahead.prefetch import BUFFERS, Filled, Part, Prefetch
from agent.gpu.cuda import CudaError
from agent.gpu.device_messages import PACKET, Message, Room, What, parse_message, ring, write_units
from agent.gpu.preload import COPIERS, Library
from agent.gpu.ranges import ROW_BYTES, UNIT
from contract.api.states import AgentReason
from linux import syscalls
from linux.proc import PROC

VERSIONS: Final = (1, 2, 3, 4, 5, 6, 7, 8, 9)
"""Of the protocol; a library of another one is left alone, and its device memory goes through the driver."""
SHARES_AGAIN: Final = 4
KEEPS_HOST_MEMORY: Final = 6
TAKES_RANGES: Final = 7
LENDS: Final = 8
MAKES_BUFFERS: Final = 9
ANSWER_SECONDS: Final = 10.0
"""To connect, and for what touches no memory: the library's own limit is one second."""
STALLED_SECONDS: Final = 30.0
"""How long a thread that copies may say nothing: a slot of 4 MiB takes milliseconds, storage that hiccups seconds."""
_IN_USE_SECONDS: Final = 1.0
MOST_DESCRIPTORS: Final = 4
"""That are taken with one message: a hostile library may send more, and the kernel closes those."""
_CREDENTIALS: Final = struct.Struct("=iII")
_NOTHING: Final = "nothing"
_REASONS: Final = {
    2: AgentReason.GPU_MEMORY,  # CUDA_ERROR_OUT_OF_MEMORY
    900: AgentReason.GPU_BUSY,  # CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED: a graph is being recorded
}
"""Of the driver's errors; others are failures."""


@dataclass(frozen=True)
class Contents:
    """What a library holds."""

    bytes: int
    """Of device memory that it can take out; 0 if it speaks another protocol."""
    imported: int = 0
    """Pieces of memory that other processes share with this one."""
    exported: int = 0
    """Pieces that others may have of this one's."""
    on_host: int = 0
    """Bytes of the host's memory that it made and mapped by the driver, besides."""
    takes_ranges: bool = False
    """Whether it can be given what it saved in other files, in part."""


@dataclass(frozen=True)
class Saved:
    """What became of a process's device memory when it was saved."""

    devices: Sequence[str]
    """The UUID of the device that each file comes from, as the library says; empty if it says none."""
    discarded: int = 0
    """Bytes that are in no file, and zeros when they are loaded."""


@dataclass(frozen=True)
class Wanted:
    """Memory of another process that one waits for."""

    number: int
    """Of the segment that waits."""
    owner: int
    """Pid inside the container."""
    segment: int
    """Its number there."""


class Conversation:
    """One conversation with a library, over a socket in the worker's network namespace; a context.

    Args:
        library: to talk with.
        init_pid: of its container.
        proc: where processes show.
        patience: seconds to wait for it to connect.

    Raises:
        CudaError: it does not answer, or says something else than the protocol has.
    """

    def __init__(self, library: Library, init_pid: int, proc: Path = PROC, *, patience: float = ANSWER_SECONDS) -> None:
        self._library = library
        self._patience = patience
        self._is_lost = False
        """Whether an answer did not come: the next that comes may be that one."""
        self._listener = _listen(library, init_pid, proc)
        try:
            _wake(library)
            self._connection = self._accept(patience)
        except BaseException:
            self._listener.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End it, and wait until the process has closed its end: criu would find a socket to nowhere."""
        end = time.monotonic() + self._patience
        with suppress(OSError), self._connection:
            self._connection.settimeout(self._patience)
            self._connection.send(Message(What.END).packed())
            while time.monotonic() < end and self._connection.recv(PACKET):
                pass
        self._listener.close()

    def contents(self) -> Contents:
        """Return what it holds."""
        answer = self._ask(What.LOOK, ANSWER_SECONDS)
        if answer.number not in VERSIONS:
            return Contents(0)
        if answer.number < SHARES_AGAIN:
            return Contents(answer.b)
        shared = self._ask(What.SHARES, ANSWER_SECONDS)
        on_host = min(answer.a, answer.b) if answer.number >= KEEPS_HOST_MEMORY else 0
        takes_ranges = answer.number >= TAKES_RANGES
        return Contents(answer.b - on_host, shared.b, shared.a, on_host, takes_ranges)

    def keep_out(self) -> None:
        """Have the worker's threads wait before the driver, until ``load``, or until an end before ``release``."""
        self._ask(What.CLOSE, ANSWER_SECONDS)

    def save(self, files: Sequence[int], held: int, seconds: float, *, discards: bool = False) -> Saved:
        """Have device memory written to files. The worker keeps it.

        Args:
            files: open for writing, as many as it has threads that copy.
            held: bytes that ``contents`` said, of device and host; all files together get no more.
            seconds: how long it may take.
            discards: whether what the worker allocated as discardable is left out.
        """
        self._send(Message(What.SAVE, number=int(discards)))
        end, room = time.monotonic() + seconds, Room(held)
        with ThreadPoolExecutor(COPIERS, thread_name_prefix="device-memory") as threads:
            writers = [threads.submit(self._write, copier, files, room, end) for copier in self._copiers(end)]
        devices = dict(writer.result() for writer in writers)
        answer = self._receive(max(ANSWER_SECONDS, end - time.monotonic()))
        discarded = min(answer.number * UNIT, held) if discards else 0
        return Saved([devices.get(number, "") for number in range(len(files))], discarded)

    def release(self) -> None:
        """Have it give its device memory back: from here on the worker cannot run without ``load``."""
        self._ask(What.RELEASE, ANSWER_SECONDS)

    def hand_over(self, prefetch: Prefetch, seconds: float) -> None:
        """Have it copy parts of its files that are on the card to where they belong, for the load that follows."""
        if not prefetch.parts or self._ask(What.LOOK, ANSWER_SECONDS).number < MAKES_BUFFERS:
            return
        buffers: list[int] = []
        try:
            buffers.extend(self._buffers(prefetch.parts))
            self._hand_over(prefetch, prefetch.filled(buffers, seconds), most=max(1, len(buffers) // 2))
        finally:
            for buffer in buffers:
                os.close(buffer)

    def _hand_over(self, prefetch: Prefetch, parts: Iterable[Filled], *, most: int) -> None:
        """Have it copy parts as they come, at most so many at a time: the buffers of others are filled meanwhile."""
        asked: deque[Filled] = deque()

        def hear(left: int) -> None:
            while len(asked) > left:
                copied = bool(self._receive(STALLED_SECONDS).a)
                prefetch.done(asked.popleft(), copied=copied)

        for filled in parts:
            part, where = filled.part, filled.buffer << 32
            self._send(Message(What.PART, part.file, part.offset // UNIT, where | part.size // UNIT))
            asked.append(filled)
            hear(most - 1)
        hear(0)

    def _buffers(self, parts: Sequence[Part]) -> Iterator[int]:
        """Yield descriptors of device memory that it makes for parts, as far as the card has room."""
        size = max(part.size for part in parts)
        for number in range(BUFFERS):
            self._send(Message(What.BUFFER, number, size // UNIT, parts[0].file))
            try:
                descriptors = self._receive_with_files(ANSWER_SECONDS)[1]
            except CudaError:
                return
            yield self._the_one(descriptors)

    def refer(self, sources: Sequence[int], table: int) -> None:
        """Give it what of its saved files is in others, for the load that follows.

        Args:
            sources: descriptors of those others.
            table: descriptor of what ``pack_ranges`` returns.
        """
        for first in range(0, len(sources), COPIERS):
            self._ask(What.SOURCES, ANSWER_SECONDS, sources[first : first + COPIERS])
        self._ask(What.RANGES, ANSWER_SECONDS, [table], a=os.fstat(table).st_size // ROW_BYTES)

    def load(self, files: Sequence[int], seconds: float) -> None:
        """Have its device memory allocated again, and filled from what was saved."""
        self._ask(What.LOAD, seconds, files)

    def lend(self, least: int) -> Lent | None:
        """Return the memory that it was loaded with, while the worker goes on; None if it lends none.

        Args:
            least: bytes of a piece that is worth it.
        """
        if self._ask(What.LOOK, self._patience).number < LENDS:
            return None
        places = os.memfd_create("places", os.MFD_CLOEXEC)
        segments: list[LentSegment] = []
        lent = Lent(segments, places)
        try:
            self._ask(What.PLACES, self._patience, [places])
            segments.extend(self._lent_segments(least))
        except BaseException:
            lent.close()
            raise
        return lent

    def _lent_segments(self, least: int) -> Iterator[LentSegment]:
        """Yield one after the other, with descriptors that are the caller's."""
        first = 0
        for _ in range(MOST_SEGMENTS):
            self._send(Message(What.LEND, first, least))
            answer, descriptors = self._receive_with_files(self._patience)
            if answer.text == _NOTHING and not descriptors:
                return
            memory = self._the_one(descriptors)
            yield LentSegment(answer.a, answer.b, memory)
            first = answer.number + 1

    def await_kernels(self) -> None:
        """Wait until none of the worker's kernels runs, on any of its devices."""
        self._ask(What.QUIET, STALLED_SECONDS)

    def tag(self, mark: int) -> None:
        """Have it write a mark over the first bytes of memory that others may have; ``untag`` must follow."""
        self._ask(What.TAG, STALLED_SECONDS, a=mark)

    def match(self, mark: int) -> None:
        """Have it read the marks in memory that it has from others, and note whose that is."""
        self._ask(What.MATCH, STALLED_SECONDS, a=mark)

    def untag(self) -> None:
        """Have it put back what was there before the marks."""
        self._ask(What.UNTAG, STALLED_SECONDS)

    def wanted(self, first: int) -> Wanted | None:
        """Return the next memory that it waits for, from a segment's number on; None if there is no more."""
        answer = self._ask(What.WANT, ANSWER_SECONDS, number=first)
        return None if answer.text == _NOTHING else Wanted(answer.number, answer.a, answer.b)

    def export_memory(self, segment: int) -> int:
        """Return a descriptor of memory that it shares; the caller closes it."""
        if not 0 <= segment < 1 << 32:
            raise self._lost(OSError("no such memory"))
        self._send(Message(What.EXPORT, segment))
        return self._the_one(self._receive_with_files(ANSWER_SECONDS)[1])

    def _the_one(self, descriptors: Sequence[int]) -> int:
        """Return the one descriptor that came."""
        if len(descriptors) == 1:
            return descriptors[0]
        for descriptor in descriptors:
            os.close(descriptor)
        raise self._lost(OSError("no memory came"))

    def import_memory(self, number: int, descriptor: int) -> None:
        """Give it memory that it waits for."""
        self._send(Message(What.IMPORT, number), [descriptor])
        self._receive(ANSWER_SECONDS)

    def _ask(self, what: int, seconds: float, files: Sequence[int] = (), *, number: int = 0, a: int = 0) -> Message:
        self._send(Message(what, number, a), files)
        return self._receive(seconds)

    def _send(self, message: Message, files: Sequence[int] = ()) -> None:
        if self._is_lost:
            raise self._lost(OSError("it has not answered before"))
        try:
            socket.send_fds(self._connection, [message.packed()], list(files))
        except OSError as error:
            raise self._lost(error) from error

    def _receive(self, seconds: float) -> Message:
        message, descriptors = self._receive_with_files(seconds)
        for descriptor in descriptors:
            os.close(descriptor)
        return message

    def _receive_with_files(self, seconds: float) -> tuple[Message, list[int]]:
        self._connection.settimeout(seconds)
        descriptors: list[int] = []
        try:
            flags = socket.MSG_CMSG_CLOEXEC
            packet, descriptors, _, _ = socket.recv_fds(self._connection, PACKET, MOST_DESCRIPTORS, flags)
            answer = parse_message(packet)
        except TimeoutError as error:
            self._is_lost = True
            words = f"the device memory of process {self._library.inner_pid} was not moved within {seconds:.0f} s"
            raise CudaError(AgentReason.GPU_BUSY, words) from error
        except OSError as error:
            for descriptor in descriptors:
                os.close(descriptor)
            raise self._lost(error) from error
        if answer.what == What.DONE:
            return answer, descriptors
        for descriptor in descriptors:
            os.close(descriptor)
        reason = _REASONS.get(answer.number, AgentReason.GPU_FAILED)
        words = f"process {self._library.inner_pid} cannot {answer.text or 'answer'} (CUDA error {answer.number})"
        raise CudaError(reason, words)

    def _lost(self, error: OSError) -> CudaError:
        words = f"process {self._library.inner_pid} no longer answers about its device memory: {error}"
        return CudaError(AgentReason.GPU_FAILED, words)

    def _accept(self, seconds: float) -> socket.socket:
        """Accept the next connection of that very process."""
        end = time.monotonic() + seconds
        while True:
            if time.monotonic() > end:
                raise self._lost(TimeoutError("timed out"))
            self._listener.settimeout(max(0.001, end - time.monotonic()))
            try:
                connection, _ = self._listener.accept()
            except OSError as error:
                raise self._lost(error) from error
            raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
            if _CREDENTIALS.unpack(raw)[0] == self._library.pid:
                return connection
            connection.close()

    def _copiers(self, end: float) -> Iterator[socket.socket]:
        """Yield the connections of threads that copy; fewer than all if it answers before: it could not begin."""
        for _ in range(COPIERS):
            seconds = min(ANSWER_SECONDS, max(0.001, end - time.monotonic()))
            ready, _, _ = select.select([self._listener, self._connection], [], [], seconds)
            if self._connection in ready and self._listener not in ready:
                return
            yield self._accept(seconds)

    def _write(self, copier: socket.socket, files: Sequence[int], room: "Room", end: float) -> tuple[int, str]:
        """Write what one copier puts into the memory that it is given to its file; return which, and its device."""
        with copier, ring() as (shared, view):
            copier.settimeout(ANSWER_SECONDS)
            hello = parse_message(copier.recv(PACKET))
            if hello.what != What.HELLO or hello.number >= len(files):
                raise self._lost(OSError("no greeting"))
            socket.send_fds(copier, [Message(What.RING).packed()], [shared])
            written = 0
            while True:
                # All are copying, so a pause means that one waits for what a held thread of the worker has.
                copier.settimeout(max(0.001, min(STALLED_SECONDS, end - time.monotonic())))
                try:
                    packet = copier.recv(PACKET)
                except OSError as error:
                    raise self._lost(error) from error
                if not packet:
                    return hello.number, hello.text
                if time.monotonic() > end:
                    raise self._lost(TimeoutError("timed out"))
                data = parse_message(packet)
                written += write_units(files[hello.number], view, data, written, room)
                with suppress(OSError):  # its end is seen above
                    copier.send(Message(What.FREE, data.number).packed())


def _listen(library: Library, init_pid: int, proc: Path) -> socket.socket:
    """Listen on the name that this process alone connects to."""
    try:
        namespace = (proc / str(init_pid) / "ns/pid").readlink()
        name = f"\0snapshot-device-memory/{namespace}/{library.inner_pid}"
        return in_network(init_pid, lambda: _listener(name), proc)
    except OSError as error:
        words = f"cannot listen for process {library.inner_pid} in its network: {error}"
        raise CudaError(AgentReason.GPU_FAILED, words) from error


def _listener(name: str) -> socket.socket:
    """Listen on a name, which this agent may have in use for a moment to borrow the worker's memory."""
    made = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    end = time.monotonic() + _IN_USE_SECONDS
    try:
        while True:
            try:
                made.bind(name)
                break
            except OSError as error:
                if error.errno != errno.EADDRINUSE or time.monotonic() > end:
                    raise
            time.sleep(0.001)
        made.listen(COPIERS + 1)
    except BaseException:
        made.close()
        raise
    return made


def _wake(library: Library) -> None:
    """Send the signal that the library's thread fetches; in any other thread it does nothing."""
    try:
        syscalls.tgkill(library.pid, library.main, signal.SIGURG)
    except OSError as error:
        words = f"process {library.inner_pid} has ended: {error}"
        raise CudaError(AgentReason.GPU_FAILED, words) from error
