"""The calls of System V IPC, in the namespace of the thread that makes them.

Layouts of structures are the kernel's for 64-bit machines (``asm-generic/ipcbuf.h`` and its neighbours).
"""

import ctypes
import errno
import os
import platform
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from linux.proc import PROC
from linux.syscalls import LIBC, checked

SHM, SEM, MSG = "shm", "sem", "msg"
_CREATE_NEW: Final = 0o1000 | 0o2000
"""IPC_CREAT and IPC_EXCL."""
_RMID, _SET, _STAT = 0, 1, 2
_SEM_SET_ALL, _SEM_GET_ALL, _SEM_GET_PID = 17, 13, 11
_NO_WAIT: Final = 0o4000
_STRUCTURE: Final = 256
"""Bytes, more than any of the three has."""
_OWNER: Final = struct.Struct("=II")
_OWNER_AT, _MODE_AT, _QUEUE_BYTES_AT = 4, 20, 88
_MODE: Final = struct.Struct("=H")
_QUEUE_BYTES: Final = struct.Struct("=Q")
_MOST_OF_SEMAPHORE: Final = 0x7FFF
_SETRESUID, _SETRESGID = {"x86_64": (117, 119), "aarch64": (147, 149)}.get(platform.machine(), (-1, -1))
_UNCHANGED: Final = ctypes.c_int(-1)
LIBC.shmat.restype = ctypes.c_void_p
LIBC.shmat.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_int)
LIBC.shmdt.argtypes = (ctypes.c_void_p,)
LIBC.msgsnd.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)


@dataclass(frozen=True)
class Wanted:
    """What a new object is to be, but for its content."""

    kind: str
    key: int
    id: int
    mode: int
    uid: int
    gid: int
    creator_uid: int
    creator_gid: int


class TakenError(Exception):
    """The id or the key of an object that is to be made is another's."""


def user_of_semaphore(number: int, place: int) -> int:
    """Return the process that used a semaphore last; 0: none that this namespace of processes knows."""
    return checked(LIBC.semctl(number, place, _SEM_GET_PID, 0), "semctl")


def semaphore_values(number: int, count: int) -> list[int]:
    """Return the values of semaphores.

    Raises:
        OSError: they are not there any more.
    """
    found = (ctypes.c_ushort * count)()
    checked(LIBC.semctl(number, 0, _SEM_GET_ALL, found), "semctl")
    return list(found)


def make(wanted: Wanted, size: int, proc: Path = PROC) -> None:
    """Make an object with its id, key and creator; its owner may be another only once it has its content.

    Args:
        wanted: what it is.
        size: bytes of shared memory, or how many semaphores; 0 for a queue.
        proc: /proc of the node.

    Raises:
        TakenError: the id or the key is another object's.
        OSError: the namespace has no room for it.
    """
    (proc / f"sys/kernel/{wanted.kind}_next_id").write_text(str(wanted.id))
    try:
        with as_creator(wanted.creator_uid, wanted.creator_gid):
            found = _get(wanted, size)
    except FileExistsError as error:
        raise TakenError(f"key {wanted.key & 0xFFFFFFFF:#x} is taken") from error
    if found != wanted.id:
        remove(wanted.kind, found)
        raise TakenError(f"id {wanted.id} is taken")


def _get(wanted: Wanted, size: int) -> int:
    key, flags = ctypes.c_int(wanted.key), wanted.mode | _CREATE_NEW
    if wanted.kind == SHM:
        return checked(LIBC.shmget(key, ctypes.c_size_t(size), flags), "shmget")
    if wanted.kind == SEM:
        return checked(LIBC.semget(key, size, flags), "semget")
    return checked(LIBC.msgget(key, flags), "msgget")


@contextmanager
def as_creator(uid: int, gid: int) -> Iterator[None]:
    """Let this thread alone act as another user: the C library would change all threads."""
    own_uid, own_gid = os.geteuid(), os.getegid()
    _set_user(_SETRESGID, gid)
    try:
        _set_user(_SETRESUID, uid)
        try:
            yield
        finally:
            _set_user(_SETRESUID, own_uid)
    finally:
        _set_user(_SETRESGID, own_gid)


def _set_user(call: int, number: int) -> None:
    """Change the real one too: by that the kernel counts what a user has of queues."""
    checked(LIBC.syscall(call, ctypes.c_uint(number), ctypes.c_uint(number), _UNCHANGED), "setresuid")


def remove(kind: str, number: int) -> None:
    """Remove an object, there or not; shared memory that is attached goes with the last that has it.

    Raises:
        OSError: this is not allowed.
    """
    if _control(kind, number, _RMID, None) < 0 and ctypes.get_errno() not in (errno.EINVAL, errno.EIDRM):
        checked(-1, f"remove {kind} {number}")


def set_owner(kind: str, number: int, uid: int, gid: int, mode: int, queue_bytes: int = 0) -> None:
    """Give an object its owner and mode; a queue also how many bytes it may hold.

    Raises:
        OSError: it is not there any more.
    """
    found = ctypes.create_string_buffer(_STRUCTURE)
    checked(_control(kind, number, _STAT, found), f"stat {kind} {number}")
    _OWNER.pack_into(found, _OWNER_AT, uid, gid)
    _MODE.pack_into(found, _MODE_AT, mode)
    if kind == MSG:
        _QUEUE_BYTES.pack_into(found, _QUEUE_BYTES_AT, queue_bytes)
    checked(_control(kind, number, _SET, found), f"set {kind} {number}")


def _control(kind: str, number: int, command: int, structure: object) -> int:
    if kind == SEM:
        return int(LIBC.semctl(number, 0, command, structure))
    return int((LIBC.shmctl if kind == SHM else LIBC.msgctl)(number, command, structure))


def set_semaphores(number: int, values: Sequence[int], *, used: bool) -> None:
    """Give semaphores their values; those that were *used* have a time of their last operation again, which is now.

    Raises:
        OSError: a value is too large, or they are not there.
    """
    checked(LIBC.semctl(number, 0, _SEM_SET_ALL, (ctypes.c_ushort * len(values))(*values)), "semctl")
    if used:
        first, then = (1, -1) if values[0] < _MOST_OF_SEMAPHORE else (-1, 1)
        both = struct.pack("=HhhHhh", 0, first, _NO_WAIT, 0, then, _NO_WAIT)
        checked(LIBC.semop(number, both, ctypes.c_size_t(2)), "semop")


def send(number: int, kind: int, text: bytes) -> None:
    """Put a message into a queue.

    Raises:
        OSError: it is too long, or the queue is full.
    """
    message = struct.pack("=q", kind) + text
    checked(LIBC.msgsnd(number, message, len(text), _NO_WAIT), "msgsnd")


def device_of_memory(number: int) -> int:
    """Return the device of the file that shared memory is, as stat numbers it: huge pages are on one of their own.

    Raises:
        OSError: it is not there.
    """
    file = open_memory(number)
    try:
        return os.fstat(file).st_dev
    finally:
        os.close(file)


def open_memory(number: int) -> int:
    """Open shared memory as a file, for reading and writing.

    Raises:
        OSError: it is not there.
    """
    at = LIBC.shmat(number, None, 0)
    if at == ctypes.c_void_p(-1).value:
        checked(-1, f"shmat {number}")
    try:
        start = f"{at:x}-"
        name = next(name for name in os.listdir("/proc/self/map_files") if name.startswith(start))  # noqa: PTH208
        return os.open(f"/proc/self/map_files/{name}", os.O_RDWR | os.O_CLOEXEC)
    finally:
        LIBC.shmdt(at)
