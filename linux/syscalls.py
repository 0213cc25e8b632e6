"""System calls that Python does not offer, with descriptors in and descriptors out.

Imports the standard library alone: the process that starts criu loads this, and is in the way of every restore.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

LIBC: Final = ctypes.CDLL(None, use_errno=True)
LIBC.ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)
LIBC.ptrace.restype = ctypes.c_long

# Numbers of system calls newer than 2011 are the same on every architecture.
_SYS_FSCONFIG: Final = 431
_SYS_FSPICK: Final = 433
_SYS_OPENAT2: Final = 437

NO_XDEV: Final = 0x01
NO_MAGICLINKS: Final = 0x02
NO_SYMLINKS: Final = 0x04
BENEATH: Final = 0x08
IN_ROOT: Final = 0x10

MQUEUE_MAGIC: Final = 0x19800202
HUGETLBFS_MAGIC: Final = 0x958458F6
_STATFS_WORDS: Final = 32
"""More than ``struct statfs`` has on any architecture; its first is the type."""

_STATX_BYTES: Final = 256
_STATX_PROTECTED: Final = 0x10 | 0x20
"""STATX_ATTR_IMMUTABLE, STATX_ATTR_APPEND."""
_AT_SYMLINK_NOFOLLOW: Final = 0x100
_PR_SET_PDEATHSIG: Final = 1
_MAP_FAILED: Final = ctypes.c_void_p(-1).value
_FSPICK_EMPTY_PATH: Final = 8
_FSPICK_CLOEXEC: Final = 1
_FSCONFIG_SET_STRING: Final = 1
_FSCONFIG_CMD_RECONFIGURE: Final = 7


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


def checked(result: int, what: str) -> int:
    """Return the result of a call of the C library; raise OSError if it failed."""
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), what)
    return result


def is_protected(directory: int, name: str) -> bool:
    """Say whether a file is immutable, or can only grow (chattr +i, +a).

    Raises:
        OSError: it is not there.
    """
    found = ctypes.create_string_buffer(_STATX_BYTES)
    checked(LIBC.statx(directory, os.fsencode(name), _AT_SYMLINK_NOFOLLOW, 0, found), "statx")
    return bool(int.from_bytes(found.raw[8:16], sys.byteorder) & _STATX_PROTECTED)


def openat2(directory: int, path: str, flags: int, *, resolve: int, mode: int = 0) -> int:
    """Open ``path`` below ``directory``, obeying the RESOLVE bits; the descriptor is close-on-exec.

    Raises:
        OSError: EXDEV or ELOOP if the path leaves what ``resolve`` allows.
    """
    how = _OpenHow(flags | os.O_CLOEXEC, mode, resolve)
    while True:
        result = LIBC.syscall(_SYS_OPENAT2, directory, os.fsencode(path), ctypes.byref(how), ctypes.sizeof(how))
        # EAGAIN: something was renamed at the same moment; the manual page says to try again.
        if result >= 0 or ctypes.get_errno() != errno.EAGAIN:
            return checked(result, path)


def open_in_root_of(pid: int, path: str, flags: int, proc: str = "/proc") -> int:
    """Open ``path`` as process ``pid`` sees it, links resolved in its own root; the descriptor is close-on-exec.

    Raises:
        OSError: it is not there.
    """
    root = os.open(f"{proc}/{pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return openat2(root, path, flags, resolve=IN_ROOT | NO_MAGICLINKS)
    finally:
        os.close(root)


def file_system_magic(path: str) -> int:
    """Return the number of the type of the file system that a path is on, as ``linux/magic.h`` lists them.

    Raises:
        OSError: it is not there.
    """
    found = (ctypes.c_long * _STATFS_WORDS)()
    checked(LIBC.statfs(os.fsencode(path), ctypes.byref(found)), path)
    return int(found[0])


def setns(namespace: int) -> None:
    """Enter the namespace that the descriptor names."""
    checked(LIBC.setns(namespace, 0), "setns")


def tgkill(pid: int, tid: int, signal_number: int) -> None:
    """Send a signal to one thread of a process.

    Raises:
        OSError: it has ended.
    """
    checked(LIBC.tgkill(pid, tid, signal_number), "tgkill")


def die_with_parent(signal_number: int) -> None:
    """Have the kernel send this process a signal once the thread that started it has ended."""
    checked(LIBC.prctl(_PR_SET_PDEATHSIG, signal_number, 0, 0, 0), "prctl")


def resize_tmpfs(mount: int, size: int) -> None:
    """Set the size of a mounted tmpfs, bytes; ``mount`` is a descriptor of its root, in any mount namespace.

    mount(2) would have to be called in the mount's own namespace: fspick(2) takes a descriptor instead.
    """
    picked = checked(LIBC.syscall(_SYS_FSPICK, mount, b"", _FSPICK_EMPTY_PATH | _FSPICK_CLOEXEC), "fspick")
    try:
        value = str(size).encode()
        checked(LIBC.syscall(_SYS_FSCONFIG, picked, _FSCONFIG_SET_STRING, b"size", value, 0), "size")
        checked(LIBC.syscall(_SYS_FSCONFIG, picked, _FSCONFIG_CMD_RECONFIGURE, None, None, 0), "reconfigure")
    finally:
        os.close(picked)


def map_file(descriptor: int, size: int) -> int:
    """Map a file for reading, and return the address.

    Raises:
        OSError: it cannot be mapped.
    """
    LIBC.mmap.restype = ctypes.c_void_p
    at = LIBC.mmap(None, ctypes.c_size_t(size), mmap.PROT_READ, mmap.MAP_SHARED, descriptor, ctypes.c_long(0))
    if at is None or at == _MAP_FAILED:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), "mmap")
    return int(at)


def unmap(at: int, size: int) -> None:
    """Undo ``map_file``."""
    checked(LIBC.munmap(ctypes.c_void_p(at), ctypes.c_size_t(size)), "munmap")
