"""Talks to the preload library in a CUDA process that takes its device memory out of the process, and puts it back.

docs/device-memory.md has the protocol. The library is in the worker's process, so what it says is hostile until it is
checked: it may spoil its own artifact, and nothing else.
"""

import fcntl
import mmap
import os
import signal
import socket
import struct
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from agent.container.network import in_network
from agent.gpu.cuda import CudaError
from agent.gpu.prefetch import Filled
from contract.api.keys import DEVICE_MEMORY_LIBRARY
from contract.api.states import AgentReason
from linux import syscalls
from linux.proc import PROC

VERSIONS: Final = (1, 2, 3, 4)
"""Of the protocol; a library of another one is left alone, and its device memory goes through the driver."""
TAKES_PARTS: Final = 2
SHARES_AGAIN: Final = 4
UNIT: Final = 2 << 20
"""Bytes that are stored as one, or not at all if they are zeros."""
MAIN_THREAD: Final = "snapshot-device"
COPIER_THREAD: Final = "snapshot-copier"
_FILE: Final = Path(DEVICE_MEMORY_LIBRARY).name.encode()
ANSWER_SECONDS: Final = 10.0
"""To connect, and for what touches no memory: the library's own limit is one second."""
STALLED_SECONDS: Final = 30.0
"""How long a thread that copies may say nothing: a slot of 4 MiB takes milliseconds, storage that hiccups seconds."""
_SLOT_UNITS: Final = 2
_SLOTS: Final = 2
MOST_DESCRIPTORS: Final = 4
"""That are taken with one message: a hostile library may send more, and the kernel closes those."""
COPIERS: Final = 16
"""Threads that copy, each with a file of its own."""
_RING: Final = _SLOTS * _SLOT_UNITS * UNIT
_MESSAGE: Final = struct.Struct("=IIQQ64s")
_CREDENTIALS: Final = struct.Struct("=iII")
_LOOK, _SAVE, _RELEASE, _LOAD, _END, _CLOSE, _PART = 1, 2, 3, 4, 5, 6, 7
_SHARES, _QUIET, _TAG, _MATCH, _UNTAG, _WANT, _EXPORT, _IMPORT = 8, 9, 10, 11, 12, 13, 14, 15
_NOTHING: Final = "nothing"
_DONE, _FAILED, _HELLO, _RING_SENT, _DATA, _FREE = 16, 17, 18, 19, 20, 21
_OUT_OF_MEMORY: Final = 2
_SEALS: Final = 0x0001 | 0x0002 | 0x0004
"""F_SEAL_SEAL, F_SEAL_SHRINK, F_SEAL_GROW: memory that can be cut short would end the agent while it reads."""


@dataclass(frozen=True)
class Library:
    """A CUDA process that has the library at work."""

    pid: int
    """The host's."""
    inner_pid: int
    """Inside the container."""
    main: int
    """Thread that is woken; both are the host's numbers."""
    threads: frozenset[int]
    """All of the library's: they must run while it works."""


@dataclass(frozen=True)
class Message:
    """One message, either way: ``native/device_memory/device_memory.h`` says what its fields mean."""

    what: int
    number: int = 0
    a: int = 0
    b: int = 0
    text: str = ""

    def packed(self) -> bytes:
        """Return its bytes."""
        return _MESSAGE.pack(self.what, self.number, self.a, self.b, self.text.encode()[:63])


@dataclass(frozen=True)
class Contents:
    """What a library holds."""

    bytes: int
    """Of device memory that it can take out; 0 if it speaks another protocol."""
    imported: int = 0
    """Pieces of memory that other processes share with this one."""
    exported: int = 0
    """Pieces that others may have of this one's."""


@dataclass(frozen=True)
class Wanted:
    """Memory of another process that one waits for."""

    number: int
    """Of the segment that waits."""
    owner: int
    """Pid inside the container."""
    segment: int
    """Its number there."""


def find_library(pid: int, inner_pid: int, proc: Path = PROC) -> Library | None:
    """Return the library in a process; None if it has none, or has not allocated device memory by it yet."""
    found: dict[str, set[int]] = {MAIN_THREAD: set(), COPIER_THREAD: set()}
    with suppress(OSError):
        for task in (proc / str(pid) / "task").iterdir():
            with suppress(OSError):  # a thread may end at any moment
                name = (task / "comm").read_text().rstrip("\n")
                found.get(name, set()).add(int(task.name))
    if len(found[MAIN_THREAD]) != 1 or len(found[COPIER_THREAD]) != COPIERS:
        return None
    (main,) = found[MAIN_THREAD]
    return Library(pid, inner_pid, main, frozenset({main, *found[COPIER_THREAD]}))


def is_preloaded(pid: int, proc: Path = PROC) -> bool:
    """Say whether a process was started with the library, which has no thread before it has something to do."""
    with suppress(OSError):
        words = (proc / str(pid) / "environ").read_bytes().split(b"\0")
        return any(word.startswith(b"LD_PRELOAD=") and _FILE in word for word in words)
    return False


class Conversation:
    """One conversation with a library, over a socket in the worker's network namespace; a context.

    Raises:
        CudaError: it does not answer, or says something else than the protocol has.
    """

    def __init__(self, library: Library, init_pid: int, proc: Path = PROC) -> None:
        self._library = library
        self._is_lost = False
        """Whether an answer did not come: the next that comes may be that one."""
        self._listener = _listen(library, init_pid, proc)
        try:
            _wake(library)
            self._connection = self._accept(ANSWER_SECONDS)
        except BaseException:
            self._listener.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End it, and wait until the process has closed its end: criu would find a socket to nowhere."""
        end = time.monotonic() + ANSWER_SECONDS
        with suppress(OSError), self._connection:
            self._connection.settimeout(ANSWER_SECONDS)
            self._connection.send(Message(_END).packed())
            while time.monotonic() < end and self._connection.recv(_MESSAGE.size):
                pass
        self._listener.close()

    def contents(self) -> Contents:
        """Return what it holds."""
        answer = self._ask(_LOOK, ANSWER_SECONDS)
        if answer.number not in VERSIONS:
            return Contents(0)
        if answer.number < SHARES_AGAIN:
            return Contents(answer.b)
        shared = self._ask(_SHARES, ANSWER_SECONDS)
        return Contents(answer.b, shared.b, shared.a)

    def keep_out(self) -> None:
        """Have the worker's threads wait before the driver, until ``load``, or until an end before ``release``."""
        self._ask(_CLOSE, ANSWER_SECONDS)

    def save(self, files: Sequence[int], held: int, seconds: float) -> Sequence[str]:
        """Have all device memory written to files. The worker keeps it.

        Args:
            files: open for writing, as many as it has threads that copy.
            held: what ``held`` said; all files together get no more.
            seconds: how long it may take.

        Returns:
            The UUID of the device that each file comes from, as the library says; empty if it says none.
        """
        self._send(Message(_SAVE))
        end, room = time.monotonic() + seconds, Room(held)
        with ThreadPoolExecutor(COPIERS, thread_name_prefix="device-memory") as threads:
            writers = [threads.submit(self._write, copier, files, room, end) for copier in self._copiers(end)]
        devices = dict(writer.result() for writer in writers)
        self._receive(max(ANSWER_SECONDS, end - time.monotonic()))
        return [devices.get(number, "") for number in range(len(files))]

    def release(self) -> None:
        """Have it give its device memory back: from here on the worker cannot run without ``load``."""
        self._ask(_RELEASE, ANSWER_SECONDS)

    def hand_over(self, parts: Iterable[Filled]) -> None:
        """Give it parts of its files that are on the card already, for the load that follows."""
        if self._ask(_LOOK, ANSWER_SECONDS).number < TAKES_PARTS:
            return
        for filled in parts:
            part = filled.part
            message = Message(_PART, part.file, part.offset // UNIT, part.size // UNIT)
            self._send(message, [filled.descriptor])

    def load(self, files: Sequence[int], seconds: float) -> None:
        """Have its device memory allocated again, and filled from what was saved."""
        self._ask(_LOAD, seconds, files)

    def await_kernels(self) -> None:
        """Wait until none of the worker's kernels runs, on any of its devices."""
        self._ask(_QUIET, STALLED_SECONDS)

    def tag(self, mark: int) -> None:
        """Have it write a mark over the first bytes of memory that others may have; ``untag`` must follow."""
        self._ask(_TAG, STALLED_SECONDS, a=mark)

    def match(self, mark: int) -> None:
        """Have it read the marks in memory that it has from others, and note whose that is."""
        self._ask(_MATCH, STALLED_SECONDS, a=mark)

    def untag(self) -> None:
        """Have it put back what was there before the marks."""
        self._ask(_UNTAG, STALLED_SECONDS)

    def wanted(self, first: int) -> Wanted | None:
        """Return the next memory that it waits for, from a segment's number on; None if there is no more."""
        answer = self._ask(_WANT, ANSWER_SECONDS, number=first)
        return None if answer.text == _NOTHING else Wanted(answer.number, answer.a, answer.b)

    def export_memory(self, segment: int) -> int:
        """Return a descriptor of memory that it shares; the caller closes it."""
        if not 0 <= segment < 1 << 32:
            raise self._lost(OSError("no such memory"))
        self._send(Message(_EXPORT, segment))
        _, descriptors = self._receive_with_files(ANSWER_SECONDS)
        if len(descriptors) == 1:
            return descriptors[0]
        for descriptor in descriptors:
            os.close(descriptor)
        raise self._lost(OSError("no memory came"))

    def import_memory(self, number: int, descriptor: int) -> None:
        """Give it memory that it waits for."""
        self._send(Message(_IMPORT, number), [descriptor])
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
            packet, descriptors, _, _ = socket.recv_fds(self._connection, _MESSAGE.size + 1, MOST_DESCRIPTORS, flags)
            answer = parse_message(packet)
        except TimeoutError as error:
            self._is_lost = True
            words = f"the device memory of process {self._library.inner_pid} was not moved within {seconds:.0f} s"
            raise CudaError(AgentReason.GPU_BUSY, words) from error
        except OSError as error:
            for descriptor in descriptors:
                os.close(descriptor)
            raise self._lost(error) from error
        if answer.what == _DONE:
            return answer, descriptors
        for descriptor in descriptors:
            os.close(descriptor)
        reason = AgentReason.GPU_MEMORY if answer.number == _OUT_OF_MEMORY else AgentReason.GPU_FAILED
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
        for _ in range(COPIERS):
            yield self._accept(min(ANSWER_SECONDS, max(0.001, end - time.monotonic())))

    def _write(self, copier: socket.socket, files: Sequence[int], room: "Room", end: float) -> tuple[int, str]:
        """Write what one copier puts into the memory that it is given to its file; return which, and its device."""
        with copier, _ring() as (shared, view):
            copier.settimeout(ANSWER_SECONDS)
            hello = parse_message(copier.recv(_MESSAGE.size + 1))
            if hello.what != _HELLO or hello.number >= len(files):
                raise self._lost(OSError("no greeting"))
            socket.send_fds(copier, [Message(_RING_SENT).packed()], [shared])
            written = 0
            while True:
                # All are copying, so a pause means that one waits for what a held thread of the worker has.
                copier.settimeout(max(0.001, min(STALLED_SECONDS, end - time.monotonic())))
                try:
                    packet = copier.recv(_MESSAGE.size + 1)
                except OSError as error:
                    raise self._lost(error) from error
                if not packet:
                    return hello.number, hello.text
                if time.monotonic() > end:
                    raise self._lost(TimeoutError("timed out"))
                data = parse_message(packet)
                written += write_units(files[hello.number], view, data, written, room)
                with suppress(OSError):  # its end is seen above
                    copier.send(Message(_FREE, data.number).packed())


class Room:
    """Bytes that the files of one process may still get; shared by the threads that write them."""

    def __init__(self, size: int) -> None:
        self._left = size
        self._lock = threading.Lock()

    def take(self, size: int) -> bool:
        """Take some of them, if they are there."""
        with self._lock:
            self._left -= size
            return self._left >= 0


def write_units(file: int, view: memoryview, data: Message, written: int, room: Room) -> int:
    """Write those units of a slot that are not zeros, one behind the other; return how many.

    Args:
        file: open for writing.
        view: all slots.
        data: what the library says of one.
        written: units that the file has.
        room: what all files may get.

    Raises:
        CudaError: it names what it does not have.
    """
    units = [number for number in range(_SLOT_UNITS) if data.b >> number & 1]
    is_known = data.what == _DATA and data.number < _SLOTS and not data.b >> _SLOT_UNITS
    if not is_known or data.a != written or not units or not room.take(len(units) * UNIT):
        raise CudaError(AgentReason.GPU_FAILED, "the worker's library names memory that it does not have")
    at = written * UNIT
    for number in units:
        start = (data.number * _SLOT_UNITS + number) * UNIT
        part = view[start : start + UNIT]
        while part:
            done = os.pwrite(file, part, at)
            part, at = part[done:], at + done
    return len(units)


def parse_message(packet: bytes) -> Message:
    """Parse what came from a library.

    Raises:
        OSError: it is no message.
    """
    if len(packet) != _MESSAGE.size:
        raise OSError("the connection was closed")
    what, number, a, b, text = _MESSAGE.unpack(packet)
    words = text.split(b"\0", 1)[0].decode("ascii", "replace")
    return Message(what, number, a, b, "".join(letter for letter in words if letter.isprintable()))


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
    made = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        made.bind(name)
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


@contextmanager
def _ring() -> Iterator[tuple[int, memoryview]]:
    """Yield memory that is shared with a copier, and cannot be cut short."""
    shared = os.memfd_create("snapshot-device-memory", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(shared, _RING)
        fcntl.fcntl(shared, fcntl.F_ADD_SEALS, _SEALS)
        with mmap.mmap(shared, _RING, prot=mmap.PROT_READ) as memory, memoryview(memory) as view:
            yield shared, view
    finally:
        os.close(shared)
