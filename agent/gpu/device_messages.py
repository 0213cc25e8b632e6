"""The messages of a device memory library, and the memory that it hands over what it saves in.

docs/device-memory.md has the protocol. What a library says is hostile until it is checked.
"""

import fcntl
import mmap
import os
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from agent.gpu.cuda import CudaError
from agent.gpu.ranges import UNIT
from contract.api.states import AgentReason

_SLOT_UNITS: Final = 2
_SLOTS: Final = 2
_SHARED: Final = _SLOTS * _SLOT_UNITS * UNIT
_MESSAGE: Final = struct.Struct("=IIQQ64s")
PACKET: Final = _MESSAGE.size + 1
"""To be received at most: what is longer than a message is none."""
_SEALS: Final = 0x0001 | 0x0002 | 0x0004
"""F_SEAL_SEAL, F_SEAL_SHRINK, F_SEAL_GROW: memory that can be cut short would end the agent while it reads."""


class What(IntEnum):
    """What a message is about; ``native/device_memory/device_memory.h`` says what goes with each."""

    LOOK = 1
    SAVE = 2
    RELEASE = 3
    LOAD = 4
    END = 5
    CLOSE = 6
    SHARES = 8
    QUIET = 9
    TAG = 10
    MATCH = 11
    UNTAG = 12
    WANT = 13
    EXPORT = 14
    IMPORT = 15
    DONE = 16
    FAILED = 17
    HELLO = 18
    RING = 19
    DATA = 20
    FREE = 21
    PART = 22
    SOURCES = 23
    RANGES = 24
    LEND = 25
    PLACES = 26
    BUFFER = 27


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
    is_known = data.what == What.DATA and data.number < _SLOTS and not data.b >> _SLOT_UNITS
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


@contextmanager
def ring() -> Iterator[tuple[int, memoryview]]:
    """Yield memory that is shared with a copier, and cannot be cut short."""
    shared = os.memfd_create("snapshot-device-memory", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(shared, _SHARED)
        fcntl.fcntl(shared, fcntl.F_ADD_SEALS, _SEALS)
        with mmap.mmap(shared, _SHARED, prot=mmap.PROT_READ) as memory, memoryview(memory) as view:
            yield shared, view
    finally:
        os.close(shared)
