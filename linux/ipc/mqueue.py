"""POSIX message queues of an IPC namespace."""

import ctypes
import errno
import os
from typing import Final

from linux.syscalls import LIBC, checked

# Numbers of system calls newer than 2011 are the same on every architecture.
_SYS_FSOPEN: Final = 430
_SYS_FSCONFIG: Final = 431
_SYS_FSMOUNT: Final = 432
_CLOSE_ON_EXEC: Final = 1
_CREATE: Final = 6


def queue_names() -> tuple[str, ...]:
    """Return the names of all queues in this thread's IPC namespace, whether any process has them open or not.

    Raises:
        OSError: the caller may not mount, or the kernel is older than 5.2.
    """
    try:
        context = checked(LIBC.syscall(_SYS_FSOPEN, b"mqueue", _CLOSE_ON_EXEC), "fsopen")
    except OSError as error:
        if error.errno == errno.ENODEV:  # the kernel was built without them
            return ()
        raise
    try:
        checked(LIBC.syscall(_SYS_FSCONFIG, context, _CREATE, None, None, 0), "fsconfig")
        mount = checked(LIBC.syscall(_SYS_FSMOUNT, context, _CLOSE_ON_EXEC, ctypes.c_uint(0)), "fsmount")
    finally:
        os.close(context)
    try:
        return tuple(sorted(os.listdir(f"/proc/self/fd/{mount}/")))  # noqa: PTH208 - a descriptor
    finally:
        os.close(mount)
