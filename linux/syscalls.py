"""System calls that Python does not offer, with descriptors in and descriptors out.

Imports the standard library alone: the process that starts criu loads this, and is in the way of every restore.
"""

from __future__ import annotations

import ctypes
import errno
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

LIBC: Final = ctypes.CDLL(None, use_errno=True)
LIBC.ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)
LIBC.ptrace.restype = ctypes.c_long

# Numbers of system calls newer than 2011 are the same on every architecture.
_SYS_OPEN_TREE: Final = 428
_SYS_FSOPEN: Final = 430
_SYS_FSCONFIG: Final = 431
_SYS_FSMOUNT: Final = 432
_SYS_FSPICK: Final = 433
_SYS_OPENAT2: Final = 437
_SYS_MOUNT_SETATTR: Final = 442

NO_XDEV: Final = 0x01
NO_MAGICLINKS: Final = 0x02
NO_SYMLINKS: Final = 0x04
BENEATH: Final = 0x08
IN_ROOT: Final = 0x10

MQUEUE_MAGIC: Final = 0x19800202
HUGETLBFS_MAGIC: Final = 0x958458F6
_STATFS_WORDS: Final = 32
"""More than ``struct statfs`` has on any architecture; its first is the type."""

_PR_SET_PDEATHSIG: Final = 1
_FSPICK_EMPTY_PATH: Final = 8
_FSPICK_CLOEXEC: Final = 1
_FSCONFIG_SET_STRING: Final = 1
_FSCONFIG_CMD_CREATE: Final = 6
_FSCONFIG_CMD_RECONFIGURE: Final = 7
_FSOPEN_CLOEXEC: Final = 1
_FSMOUNT_CLOEXEC: Final = 1
_MOUNT_READ_ONLY: Final = 1
_OPEN_TREE_CLONE: Final = 1
_MOUNT_ATTR_RDONLY: Final = 1
_AT_EMPTY_PATH: Final = 0x1000


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
        OSError: EXDEV or ELOOP if the path leaves what ``resolve`` allows.
    """
    how = _OpenHow(flags | os.O_CLOEXEC, mode, resolve)
    while True:
        result = LIBC.syscall(_SYS_OPENAT2, directory, os.fsencode(path), ctypes.byref(how), ctypes.sizeof(how))
        # EAGAIN: something was renamed at the same moment; the manual page says to try again.
        if result >= 0 or ctypes.get_errno() != errno.EAGAIN:
            return _checked(result, path)


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
    _checked(LIBC.statfs(os.fsencode(path), ctypes.byref(found)), path)
    return int(found[0])


def setns(namespace: int) -> None:
    """Enter the namespace that the descriptor names."""
    _checked(LIBC.setns(namespace, 0), "setns")


def reopened_read_only(fd: int) -> int:
    """Open a file again through a mount of its own that cannot be written; the descriptor is close-on-exec.

    A descriptor that is handed to another process can be opened again there, by its number in /proc, and for writing if
    the mount and the file's mode let that user.

    Raises:
        OSError: the kernel is older than 5.12, or the caller may not mount.
    """
    tree = _checked(
        LIBC.syscall(_SYS_OPEN_TREE, fd, b"", ctypes.c_uint(_OPEN_TREE_CLONE | _AT_EMPTY_PATH | os.O_CLOEXEC)),
        "open_tree",
    )
    try:
        attributes = (ctypes.c_uint64 * 4)(_MOUNT_ATTR_RDONLY)
        size = ctypes.sizeof(attributes)
        result = LIBC.syscall(_SYS_MOUNT_SETATTR, tree, b"", _AT_EMPTY_PATH, ctypes.byref(attributes), size)
        _checked(result, "mount_setattr")
        return os.open(f"/proc/self/fd/{tree}", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(tree)


def tgkill(pid: int, tid: int, signal_number: int) -> None:
    """Send a signal to one thread of a process.

    Raises:
        OSError: it has ended.
    """
    _checked(LIBC.tgkill(pid, tid, signal_number), "tgkill")


def die_with_parent(signal_number: int) -> None:
    """Have the kernel send this process a signal once the thread that started it has ended."""
    _checked(LIBC.prctl(_PR_SET_PDEATHSIG, signal_number, 0, 0, 0), "prctl")


def resize_tmpfs(mount: int, size: int) -> None:
    """Set the size of a mounted tmpfs, bytes; ``mount`` is a descriptor of its root, in any mount namespace.

    mount(2) would have to be called in the mount's own namespace: fspick(2) takes a descriptor instead.
    """
    picked = _checked(LIBC.syscall(_SYS_FSPICK, mount, b"", _FSPICK_EMPTY_PATH | _FSPICK_CLOEXEC), "fspick")
    try:
        value = str(size).encode()
        _checked(LIBC.syscall(_SYS_FSCONFIG, picked, _FSCONFIG_SET_STRING, b"size", value, 0), "size")
        _checked(LIBC.syscall(_SYS_FSCONFIG, picked, _FSCONFIG_CMD_RECONFIGURE, None, None, 0), "reconfigure")
    finally:
        os.close(picked)


def layered(top: int, bottom: int) -> int:
    """Return a descriptor of a directory that holds the files of two others, those of the first where both have one.

    It is the root of a mount that is nowhere attached, read only, and ends with the descriptor. Both directories must
    be on mounts of the caller's own mount namespace.

    Raises:
        OSError: the kernel has no overlay file system, or refuses these directories.
    """
    context = _checked(LIBC.syscall(_SYS_FSOPEN, b"overlay", _FSOPEN_CLOEXEC), "fsopen")
    try:
        layers = f"/proc/self/fd/{top}:/proc/self/fd/{bottom}".encode()
        _checked(LIBC.syscall(_SYS_FSCONFIG, context, _FSCONFIG_SET_STRING, b"lowerdir", layers, 0), "lowerdir")
        _checked(LIBC.syscall(_SYS_FSCONFIG, context, _FSCONFIG_CMD_CREATE, None, None, 0), "overlay")
        return _checked(LIBC.syscall(_SYS_FSMOUNT, context, _FSMOUNT_CLOEXEC, _MOUNT_READ_ONLY), "fsmount")
    finally:
        os.close(context)
