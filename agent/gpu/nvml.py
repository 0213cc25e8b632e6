"""What NVML says of the node's GPUs: model, device node, memory, and how much of it each process holds.

By ctypes, as ``driver``: ten calls of ``nvml.h``. Imports the standard library alone.
"""

from __future__ import annotations

import ctypes
from typing import Final, TypedDict

LIBRARY: Final = "libnvidia-ml.so.1"
DEVICES: Final = "devices"
USED: Final = "used"
_NAME_BYTES: Final = 96
_INSUFFICIENT_SIZE: Final = 7
_NOT_AVAILABLE: Final = 0xFFFFFFFFFFFFFFFF
"""NVML_VALUE_NOT_AVAILABLE: the driver does not account memory by process here."""


class NvmlError(Exception):
    """A call did not return NVML_SUCCESS."""


class DeviceFacts(TypedDict):
    """One GPU; memory in bytes."""

    uuid: str
    """Hexadecimal, as the CUDA driver has it."""
    model: str
    minor: int
    """Of its device node, ``/dev/nvidia<minor>``."""
    total: int
    free: int
    mig: bool
    """Whether it is divided."""
    exclusive: bool
    """Whether it is for one process at a time, or for none."""


class _Memory(ctypes.Structure):
    _fields_ = (("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong))


class _Process(ctypes.Structure):
    _fields_ = (
        ("pid", ctypes.c_uint),
        ("used", ctypes.c_ulonglong),
        ("gpuInstanceId", ctypes.c_uint),
        ("computeInstanceId", ctypes.c_uint),
    )


class Nvml:
    """An initialised NVML.

    Raises:
        OSError: the library is not there.
        NvmlError: it is there, and the driver is not loaded.
    """

    def __init__(self, library: str = LIBRARY) -> None:
        self._nvml = ctypes.CDLL(library)
        self._check(self._nvml.nvmlInit_v2())

    def driver_version(self) -> str:
        """Return the version of the kernel driver: ``580.159.04``."""
        text = ctypes.create_string_buffer(_NAME_BYTES)
        self._check(self._nvml.nvmlSystemGetDriverVersion(text, _NAME_BYTES))
        return text.value.decode()

    def devices(self) -> list[DeviceFacts]:
        """Describe each GPU, in NVML's order."""
        return [self._facts(handle) for handle in self._handles()]

    def used(self) -> dict[int, dict[str, int]]:
        """Return the device memory of each compute process: host pid -> UUID -> bytes.

        If the driver does not say how much one process holds, it is the whole of what is used on that GPU.
        """
        held: dict[int, dict[str, int]] = {}
        for handle in self._handles():
            uuid, memory = self._uuid(handle), self._memory(handle)
            for process in self._processes(handle):
                size = memory.used if process.used == _NOT_AVAILABLE else process.used
                held.setdefault(process.pid, {})[uuid] = int(size)
        return held

    def _handles(self) -> list[ctypes.c_void_p]:
        count = ctypes.c_uint()
        self._check(self._nvml.nvmlDeviceGetCount_v2(ctypes.byref(count)))
        handles = []
        for index in range(count.value):
            handle = ctypes.c_void_p()
            self._check(self._nvml.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(handle)))
            handles.append(handle)
        return handles

    def _facts(self, handle: ctypes.c_void_p) -> DeviceFacts:
        model, minor, memory = ctypes.create_string_buffer(_NAME_BYTES), ctypes.c_uint(), self._memory(handle)
        self._check(self._nvml.nvmlDeviceGetName(handle, model, _NAME_BYTES))
        self._check(self._nvml.nvmlDeviceGetMinorNumber(handle, ctypes.byref(minor)))
        return {
            "uuid": self._uuid(handle),
            "model": model.value.decode("utf-8", "replace"),
            "minor": minor.value,
            "total": int(memory.total),
            "free": int(memory.free),
            "mig": self._is_divided(handle),
            "exclusive": self._is_exclusive(handle),
        }

    def _is_divided(self, handle: ctypes.c_void_p) -> bool:
        current, pending = ctypes.c_uint(), ctypes.c_uint()
        result = self._nvml.nvmlDeviceGetMigMode(handle, ctypes.byref(current), ctypes.byref(pending))
        return result == 0 and bool(current.value)  # most cards do not know of it

    def _is_exclusive(self, handle: ctypes.c_void_p) -> bool:
        mode = ctypes.c_uint()
        return self._nvml.nvmlDeviceGetComputeMode(handle, ctypes.byref(mode)) == 0 and bool(mode.value)

    def _uuid(self, handle: ctypes.c_void_p) -> str:
        text = ctypes.create_string_buffer(_NAME_BYTES)
        self._check(self._nvml.nvmlDeviceGetUUID(handle, text, _NAME_BYTES))
        return text.value.decode().removeprefix("GPU-").replace("-", "")

    def _memory(self, handle: ctypes.c_void_p) -> _Memory:
        memory = _Memory()
        self._check(self._nvml.nvmlDeviceGetMemoryInfo(handle, ctypes.byref(memory)))
        return memory

    def _processes(self, handle: ctypes.c_void_p) -> list[_Process]:
        count = ctypes.c_uint(64)
        while True:
            found = (_Process * count.value)()
            result = self._nvml.nvmlDeviceGetComputeRunningProcesses_v3(handle, ctypes.byref(count), found)
            if result != _INSUFFICIENT_SIZE:
                self._check(result)
                return list(found[: count.value])
            count.value += 64  # it has written the number that it needs, and more may start meanwhile

    def _check(self, result: int) -> None:
        if result:
            self._nvml.nvmlErrorString.restype = ctypes.c_char_p
            words = self._nvml.nvmlErrorString(result)
            raise NvmlError(f"NVML: {words.decode() if words else result}")
