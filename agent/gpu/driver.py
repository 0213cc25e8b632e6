"""The CUDA driver's checkpoint API, by ctypes: seven calls that take a process id of the caller's pid namespace.

Numbers and structures are those of ``cuda.h``, "Checkpoint" section; every argument block is 64 bytes, zeroed.
Imports the standard library alone: the helper loads this and nothing else.
"""

from __future__ import annotations

import ctypes
from enum import IntEnum
from typing import Final

LIBRARY: Final = "libcuda.so.1"
RESTORE_THREAD: Final = "restore-thread"
STATE: Final = "state"
LOCK: Final = "lock"
CHECKPOINT: Final = "checkpoint"
RESTORE: Final = "restore"
UNLOCK: Final = "unlock"


class ProcessState(IntEnum):
    """CUprocessState."""

    RUNNING = 0
    LOCKED = 1
    CHECKPOINTED = 2
    FAILED = 3
    CHECKPOINTING = 4
    RESTORING = 5


class DriverError(Exception):
    """A call did not return CUDA_SUCCESS; the message is the error's name."""


class _LockArgs(ctypes.Structure):
    _fields_ = (("timeoutMs", ctypes.c_uint), ("reserved0", ctypes.c_uint), ("reserved1", ctypes.c_uint64 * 7))


class _GpuPair(ctypes.Structure):
    _fields_ = (("oldUuid", ctypes.c_ubyte * 16), ("newUuid", ctypes.c_ubyte * 16))


class _RestoreArgs(ctypes.Structure):
    _fields_ = (
        ("gpuPairs", ctypes.POINTER(_GpuPair)),
        ("gpuPairsCount", ctypes.c_uint),
        ("padding", ctypes.c_uint),
        ("reserved", ctypes.c_uint64 * 6),
    )


class Driver:
    """An initialised driver.

    Raises:
        OSError: the library is not there, or is older than its checkpoint API (570).
        DriverError: it is there, and has no device.
    """

    def __init__(self, library: str = LIBRARY) -> None:
        self._cuda = ctypes.CDLL(library)
        try:
            self._cuda.cuCheckpointProcessRestore  # noqa: B018 - looked up, not called
        except AttributeError as error:
            raise OSError(f"{library} has no checkpoint API: driver 570 or newer is needed") from error
        self._check(self._cuda.cuInit(0))

    def cuda_version(self) -> str:
        """Return the newest CUDA that the driver serves: ``13.0``."""
        number = ctypes.c_int()
        self._check(self._cuda.cuDriverGetVersion(ctypes.byref(number)))
        return f"{number.value // 1000}.{number.value % 1000 // 10}"

    def restore_thread(self, pid: int) -> int:
        """Return the thread that must run for a restore. Answers at once, also for a stopped process."""
        tid = ctypes.c_int()
        self._check(self._cuda.cuCheckpointProcessGetRestoreThreadId(pid, ctypes.byref(tid)))
        return tid.value

    def state(self, pid: int) -> int:
        """Return a ``ProcessState``. Waits while the process is stopped, and while another call on it goes on."""
        state = ctypes.c_int()
        self._check(self._cuda.cuCheckpointProcessGetState(pid, ctypes.byref(state)))
        return state.value

    def lock(self, pid: int, milliseconds: int) -> None:
        """Keep the process from making CUDA calls, once those in flight are done; NOT_READY if that takes longer."""
        arguments = _LockArgs(timeoutMs=milliseconds)
        self._check(self._cuda.cuCheckpointProcessLock(pid, ctypes.byref(arguments)))

    def checkpoint(self, pid: int) -> None:
        """Move a locked process's device memory into its host memory, and give the device back."""
        self._check(self._cuda.cuCheckpointProcessCheckpoint(pid, None))

    def restore(self, pid: int, pairs: list[tuple[str, str]]) -> None:
        """Move it back. ``pairs``: UUID of each device seen at the checkpoint, and of the one to use; empty for one."""
        block = (_GpuPair * len(pairs))()
        for pair, (old, new) in zip(block, pairs, strict=True):
            pair.oldUuid[:] = bytes.fromhex(old)
            pair.newUuid[:] = bytes.fromhex(new)
        arguments = _RestoreArgs(gpuPairs=block if pairs else None, gpuPairsCount=len(pairs))
        self._check(self._cuda.cuCheckpointProcessRestore(pid, ctypes.byref(arguments)))

    def unlock(self, pid: int) -> None:
        """Let a locked process go on."""
        self._check(self._cuda.cuCheckpointProcessUnlock(pid, None))

    def _check(self, result: int) -> None:
        if result:
            name = ctypes.c_char_p()
            known = self._cuda.cuGetErrorName(result, ctypes.byref(name)) == 0 and name.value
            raise DriverError(name.value.decode() if known and name.value else f"CUDA_ERROR_{result}")
