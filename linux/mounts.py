"""Mounts by descriptor: copied, read only, put together, and taken out of the namespace again."""

import ctypes
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from linux.syscalls import LIBC, checked, setns

# Numbers of system calls newer than 2011 are the same on every architecture.
_SYS_OPEN_TREE: Final = 428
_SYS_MOVE_MOUNT: Final = 429
_SYS_MOUNT_SETATTR: Final = 442
_OPEN_TREE_CLONE: Final = 1
_MOUNT_ATTR_RDONLY: Final = 1
_MOVE_MOUNT_F_EMPTY_PATH: Final = 4
_MNT_DETACH: Final = 2
_CLONE_FS: Final = 0x200
_AT_FDCWD: Final = -100
_AT_EMPTY_PATH: Final = 0x1000
_AT_RECURSIVE: Final = 0x8000

T = TypeVar("T")


def reopened_read_only(fd: int) -> int:
    """Open a file again through a mount of its own that cannot be written; the descriptor is close-on-exec.

    A descriptor that is handed to another process can be opened again there, by its number in /proc, and for writing if
    the mount and the file's mode let that user.

    Raises:
        OSError: as ``read_only_mount``.
    """
    mount = read_only_mount(fd)
    try:
        return os.open(f"/proc/self/fd/{mount}", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(mount)


def read_only_mount(fd: int) -> int:
    """Return a descriptor of a new mount, attached nowhere, that shows one file or directory and cannot be written.

    Raises:
        OSError: the kernel is older than 5.12, the caller may not mount, or *fd* is of another mount namespace.
    """
    mount = cloned_mounts(fd)
    try:
        attributes = (ctypes.c_uint64 * 4)(_MOUNT_ATTR_RDONLY)
        size = ctypes.sizeof(attributes)
        checked(
            LIBC.syscall(_SYS_MOUNT_SETATTR, mount, b"", _AT_EMPTY_PATH, ctypes.byref(attributes), size),
            "mount_setattr",
        )
    except BaseException:
        os.close(mount)
        raise
    return mount


def cloned_mounts(fd: int) -> int:
    """Return a descriptor of new mounts, attached nowhere: of a file or directory, with what is mounted beneath it.

    They end with the descriptor, whatever becomes of those that they were made of.

    Raises:
        OSError: the caller may not mount, or *fd* is of another mount namespace.
    """
    flags = _OPEN_TREE_CLONE | _AT_EMPTY_PATH | _AT_RECURSIVE | os.O_CLOEXEC
    return checked(LIBC.syscall(_SYS_OPEN_TREE, fd, b"", ctypes.c_uint(flags)), "open_tree")


def attach(mount: int, path: str, directory: int = _AT_FDCWD) -> None:
    """Attach a mount that is attached nowhere, to a path in this mount namespace."""
    target = os.fsencode(path)
    checked(LIBC.syscall(_SYS_MOVE_MOUNT, mount, b"", directory, target, _MOVE_MOUNT_F_EMPTY_PATH), path)


def detach(path: str) -> None:
    """Take a mount, and what is mounted beneath it, out of the mount namespace."""
    checked(LIBC.umount2(os.fsencode(path), _MNT_DETACH), path)


def in_mount_namespace(namespace: int, call: Callable[[], T]) -> T:
    """Call something in a thread of its own that has entered the mount namespace which a descriptor names."""

    def enter() -> T:
        checked(LIBC.unshare(_CLONE_FS), "unshare")
        setns(namespace)
        return call()

    with ThreadPoolExecutor(1) as thread:  # which ends with it: it could not come back
        return thread.submit(enter).result()
