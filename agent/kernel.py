"""System calls that Python does not offer, with descriptors in and descriptors out.

Imports the standard library alone: processes that enter containers load this, and must load nothing once inside.
"""

from __future__ import annotations

import ctypes
import errno
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

LIBC: Final = ctypes.CDLL(None, use_errno=True)

# Numbers of system calls newer than 2011 are the same on every architecture.
_SYS_OPEN_TREE: Final = 428
_SYS_OPENAT2: Final = 437

NO_XDEV: Final = 0x01
NO_MAGICLINKS: Final = 0x02
NO_SYMLINKS: Final = 0x04
BENEATH: Final = 0x08
IN_ROOT: Final = 0x10

_AT_FDCWD: Final = -100
_OPEN_TREE_CLONE: Final = 1
_AT_RECURSIVE: Final = 0x8000
_PR_SET_PDEATHSIG: Final = 1
_MS_REMOUNT: Final = 32


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


def _checked(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), what)
    return result


def openat2(directory: int, path: str, flags: int, *, resolve: int, mode: int = 0) -> int:
    """Open ``path`` below ``directory``, obeying the RESOLVE bits; the descriptor is close-on-exec.

    Raises:
        OSError: EXDEV or ELOOP where the path leaves what ``resolve`` allows.
    """
    how = _OpenHow(flags | os.O_CLOEXEC, mode, resolve)
    while True:
        result = LIBC.syscall(_SYS_OPENAT2, directory, os.fsencode(path), ctypes.byref(how), ctypes.sizeof(how))
        # EAGAIN: something was renamed at the same moment; the manual page says to try again.
        if result >= 0 or ctypes.get_errno() != errno.EAGAIN:
            return _checked(result, path)


def open_tree(path: str) -> int:
    """A detached copy of the mounts at ``path``: usable by descriptor from any mount namespace, without being in it."""
    flags = _OPEN_TREE_CLONE | _AT_RECURSIVE
    return _checked(LIBC.syscall(_SYS_OPEN_TREE, _AT_FDCWD, os.fsencode(path), flags), path)


def setns(namespace: int) -> None:
    """Enter the namespace that the descriptor names."""
    _checked(LIBC.setns(namespace, 0), "setns")


def die_with_parent(signal_number: int) -> None:
    """Have the kernel send this process a signal once the thread that started it is gone."""
    _checked(LIBC.prctl(_PR_SET_PDEATHSIG, signal_number, 0, 0, 0), "prctl")


def resize_tmpfs(path: str, size: int) -> None:
    """Set the size of a mounted tmpfs, bytes."""
    data = f"size={size}".encode()
    _checked(LIBC.mount(b"none", os.fsencode(path), None, _MS_REMOUNT, data), path)
