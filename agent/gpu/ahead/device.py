"""Device memory by the CUDA driver's API, by ctypes: allocated, or taken of other processes, and filled.

Numbers and structures are those of ``cuda.h``, "Virtual Memory Management".
Imports the standard library alone: the process that fills device memory loads this and nothing else.
"""

from __future__ import annotations

import ctypes
import threading
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent.gpu.driver import DriverError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

_PINNED: Final = 1
_POSIX_DESCRIPTOR: Final = 1
_ON_DEVICE: Final = 1
_READ_WRITE: Final = 3
_NON_BLOCKING: Final = 1
_HAS_RDMA: Final = 110
_FOR_ALL_CONTEXTS: Final = 1
_READ_ONLY: Final = 8
_HAS_NATIVE_ATOMICS: Final = 3
"""CU_DEVICE_P2P_ATTRIBUTE_NATIVE_ATOMIC_SUPPORTED: NVLink has them, PCIe of these machines does not."""
_FUNCTIONS: Final = (
    "cuInit",
    "cuDeviceGetCount",
    "cuDeviceGetUuid_v2",
    "cuDeviceGetAttribute",
    "cuDeviceGetP2PAttribute",
    "cuDevicePrimaryCtxRetain",
    "cuCtxSetCurrent",
    "cuMemCreate",
    "cuMemRelease",
    "cuMemAddressReserve",
    "cuMemAddressFree",
    "cuMemMap",
    "cuMemUnmap",
    "cuMemSetAccess",
    "cuMemImportFromShareableHandle",
    "cuMemGetAllocationPropertiesFromHandle",
    "cuMemHostRegister_v2",
    "cuMemHostUnregister",
    "cuStreamCreate",
    "cuStreamDestroy_v2",
    "cuStreamSynchronize",
    "cuMemcpyHtoDAsync_v2",
    "cuMemcpyDtoHAsync_v2",
    "cuMemcpyDtoDAsync_v2",
    "cuMemsetD8Async",
    "cuModuleLoadData",
    "cuModuleGetFunction",
    "cuLaunchKernel",
)
_Address = ctypes.c_uint64
_Handle = ctypes.c_uint64


class _Location(ctypes.Structure):
    _fields_ = (("type", ctypes.c_int), ("id", ctypes.c_int))


class _Properties(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),
        ("handleTypes", ctypes.c_int),
        ("location", _Location),
        ("win32", ctypes.c_void_p),
        ("compression", ctypes.c_ubyte),
        ("rdma", ctypes.c_ubyte),
        ("usage", ctypes.c_ushort),
        ("reserved", ctypes.c_ubyte * 4),
    )


class _Access(ctypes.Structure):
    _fields_ = (("location", _Location), ("flags", ctypes.c_int))


class _Uuid(ctypes.Structure):
    _fields_ = (("bytes", ctypes.c_ubyte * 16),)


@dataclass(frozen=True)
class Memory:
    """Device memory that is mapped here."""

    handle: int
    at: int
    """Device address, in this process."""
    size: int


class Memories:
    """An initialised driver, and the GPUs that were asked for.

    Raises:
        OSError: the library is not there, or too old.
        DriverError: it is there, and has no device.
    """

    def __init__(self, library: str) -> None:
        cuda = ctypes.CDLL(library)
        _load_compiler(library)
        try:
            self._call = {name: cuda[name] for name in _FUNCTIONS}
        except AttributeError as error:
            raise OSError(f"{library}: {error}") from error
        self._lock = threading.Lock()
        self._cards: dict[str, Card] = {}
        self.check("cuInit", 0)

    def check(self, function: str, *arguments: object) -> None:
        """Call a function of the driver; raises DriverError if it fails."""
        if result := self._call[function](*arguments):
            raise DriverError(f"{function}: CUDA error {result}")

    def card(self, uuid: str) -> Card:
        """Return a GPU; its context is made when it is first asked for, and stays.

        Args:
            uuid: hexadecimal, without nvidia-smi's prefix.
        """
        with self._lock:
            if uuid not in self._cards:
                self._cards[uuid] = Card(self, self._number(uuid))
            return self._cards[uuid]

    def register(self, at: int, size: int) -> None:
        """Have all cards read memory of this process directly; it may be mapped for reading alone."""
        flags = _FOR_ALL_CONTEXTS | _READ_ONLY
        self.check("cuMemHostRegister_v2", ctypes.c_void_p(at), ctypes.c_size_t(size), flags)

    def unregister(self, at: int) -> None:
        """Undo that, for what was registered at an address."""
        self.check("cuMemHostUnregister", ctypes.c_void_p(at))

    def _number(self, uuid: str) -> int:
        count = ctypes.c_int()
        self.check("cuDeviceGetCount", ctypes.byref(count))
        for number in range(count.value):
            found = _Uuid()
            self.check("cuDeviceGetUuid_v2", ctypes.byref(found), number)
            if bytes(found.bytes).hex() == uuid:
                return number
        raise DriverError(f"no GPU {uuid}")


def _load_compiler(library: str) -> None:
    """Load what the driver compiles kernels by: it looks for that by name, and a folder of the node is on no path."""
    compiler = Path(library).with_name("libnvidia-ptxjitcompiler.so.1")
    if compiler.is_absolute():
        with suppress(OSError):
            ctypes.CDLL(str(compiler))


class Card:
    """One GPU, with a context of this process."""

    def __init__(self, memories: Memories, number: int) -> None:
        self._check = memories.check
        self._context = ctypes.c_void_p()
        self._location = _Location(_ON_DEVICE, number)
        rdma = ctypes.c_int()
        self._check("cuDeviceGetAttribute", ctypes.byref(rdma), _HAS_RDMA, number)
        self._properties = _Properties(type=_PINNED, location=self._location, rdma=bool(rdma.value))
        self._check("cuDevicePrimaryCtxRetain", ctypes.byref(self._context), number)

    def enter(self) -> None:
        """Have this thread's calls be about this GPU."""
        self._check("cuCtxSetCurrent", self._context)

    def allocate(self, size: int) -> Memory:
        """Allocate and map memory; ``size``: a multiple of 2 MiB."""
        handle = _Handle()
        self._check(
            "cuMemCreate", ctypes.byref(handle), ctypes.c_size_t(size), ctypes.byref(self._properties), _Handle(0)
        )
        return self._map(handle, size)

    def take(self, descriptor: int, size: int) -> Memory:
        """Map memory of another process, on this GPU or one that it reaches.

        Args:
            descriptor: by which that process has exported it.
            size: all of it; the driver refuses another.
        """
        handle = _Handle()
        memory = ctypes.c_void_p(descriptor)
        self._check("cuMemImportFromShareableHandle", ctypes.byref(handle), memory, _POSIX_DESCRIPTOR)
        return self._map(handle, size)

    def is_linked(self, memory: Memory) -> bool:
        """Say whether memory is on this GPU, or on one that a link of their own joins to it, and not the bus."""
        found, linked = _Properties(), ctypes.c_int()
        self._check("cuMemGetAllocationPropertiesFromHandle", ctypes.byref(found), _Handle(memory.handle))
        there, here = found.location.id, self._location.id
        if there != here:
            self._check("cuDeviceGetP2PAttribute", ctypes.byref(linked), _HAS_NATIVE_ATOMICS, here, there)
        return there == here or bool(linked.value)

    def _map(self, handle: ctypes.c_uint64, size: int) -> Memory:
        """Map memory for this GPU; it is let go of if that fails."""
        at, length = _Address(), ctypes.c_size_t(size)
        access = _Access(self._location, _READ_WRITE)
        with ExitStack() as undo:
            undo.callback(self._check, "cuMemRelease", handle)
            self._check("cuMemAddressReserve", ctypes.byref(at), length, ctypes.c_size_t(0), _Address(0), _Address(0))
            undo.callback(self._check, "cuMemAddressFree", at, length)
            self._check("cuMemMap", at, length, ctypes.c_size_t(0), handle, _Address(0))
            undo.callback(self._check, "cuMemUnmap", at, length)
            self._check("cuMemSetAccess", at, length, ctypes.byref(access), ctypes.c_size_t(1))
            undo.pop_all()
        return Memory(handle.value, at.value, size)

    def free(self, memory: Memory) -> None:
        """Let go of it."""
        self._check("cuMemUnmap", _Address(memory.at), ctypes.c_size_t(memory.size))
        self._check("cuMemRelease", _Handle(memory.handle))
        self._check("cuMemAddressFree", _Address(memory.at), ctypes.c_size_t(memory.size))

    def lock_pages(self, at: int, size: int) -> None:
        """Lock memory of this process: the card copies from other memory at a fifth of the speed."""
        self._check("cuMemHostRegister_v2", ctypes.c_void_p(at), ctypes.c_size_t(size), 0)

    def stream(self) -> ctypes.c_void_p:
        """Return a new stream."""
        made = ctypes.c_void_p()
        self._check("cuStreamCreate", ctypes.byref(made), _NON_BLOCKING)
        return made

    def copy(self, to: int, host: int, size: int, stream: ctypes.c_void_p) -> None:
        """Begin to copy locked memory to the card."""
        self._check("cuMemcpyHtoDAsync_v2", _Address(to), ctypes.c_void_p(host), ctypes.c_size_t(size), stream)

    def copy_within(self, to: int, at: int, size: int, stream: ctypes.c_void_p) -> None:
        """Begin to copy between device addresses of this process, of any GPU."""
        self._check("cuMemcpyDtoDAsync_v2", _Address(to), _Address(at), ctypes.c_size_t(size), stream)

    @contextmanager
    def copies(self) -> Iterator[Callable[[int, int, int], None]]:
        """Yield what copies to a device address, from another, so many bytes, and waits for that."""
        stream = self.stream()

        def copy(to: int, at: int, size: int) -> None:
            self.copy_within(to, at, size, stream)
            self.wait(stream)

        try:
            yield copy
        finally:
            self._check("cuStreamDestroy_v2", stream)

    def copy_back(self, host: int, at: int, size: int, stream: ctypes.c_void_p) -> None:
        """Begin to copy from the card to locked memory."""
        self._check("cuMemcpyDtoHAsync_v2", ctypes.c_void_p(host), _Address(at), ctypes.c_size_t(size), stream)

    def clear(self, at: int, size: int, stream: ctypes.c_void_p) -> None:
        """Begin to fill device memory with zeros."""
        self._check("cuMemsetD8Async", _Address(at), ctypes.c_ubyte(0), ctypes.c_size_t(size), stream)

    def load(self, code: bytes, name: str) -> ctypes.c_void_p:
        """Return a kernel; the driver compiles its PTX, in some 0.1 s."""
        module, kernel = ctypes.c_void_p(), ctypes.c_void_p()
        self._check("cuModuleLoadData", ctypes.byref(module), ctypes.c_char_p(code))
        self._check("cuModuleGetFunction", ctypes.byref(kernel), module, ctypes.c_char_p(name.encode()))
        return kernel

    def launch(
        self, kernel: ctypes.c_void_p, grid: tuple[int, int], threads: int, at: Sequence[int], stream: ctypes.c_void_p
    ) -> None:
        """Begin to run a kernel.

        Args:
            kernel: what ``load`` returned.
            grid: blocks, by x and y.
            threads: of each block.
            at: its arguments: device addresses.
            stream: on which it runs.
        """
        values = [_Address(each) for each in at]
        arguments = (ctypes.c_void_p * len(values))(*(ctypes.addressof(value) for value in values))
        self._check("cuLaunchKernel", kernel, *grid, 1, threads, 1, 1, 0, stream, arguments, None)

    def wait(self, stream: ctypes.c_void_p) -> None:
        """Wait until all copies of a stream are done."""
        self._check("cuStreamSynchronize", stream)
