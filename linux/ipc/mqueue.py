"""POSIX message queues of the IPC namespace of the thread that calls."""

import ctypes
import errno
import os
import platform
import re
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import Final

from linux.ipc.calls import as_creator
from linux.syscalls import LIBC, checked

# Numbers of system calls newer than 2011 are the same on every architecture.
_SYS_FSOPEN: Final = 430
_SYS_FSCONFIG: Final = 431
_SYS_FSMOUNT: Final = 432
_CLOSE_ON_EXEC: Final = 1
_CREATE: Final = 6
_OPEN, _UNLINK, _SEND, _RECEIVE, _ATTRIBUTES = {
    "x86_64": (240, 241, 242, 243, 245),
    "aarch64": (180, 181, 182, 183, 185),
}.get(platform.machine(), (-1, -1, -1, -1, -1))
_ATTRIBUTE: Final = struct.Struct("=8q")
"""struct mq_attr: flags, messages that fit, bytes of one, messages that are there; the rest is reserved."""
_STATUS: Final = re.compile(r"^QSIZE:(\d+) .*NOTIFY_PID:(-?\d+)")


@dataclass(frozen=True)
class QueueStatus:
    """What the file system of queues says of one."""

    name: str
    """Without the slash."""
    held: int = 0
    """Bytes of its messages."""
    is_watched: bool = False
    """A process is to be signalled when a message comes (mq_notify)."""
    messages: int = 0


@dataclass(frozen=True)
class QueueState:
    """All of a queue."""

    name: str
    mode: int
    uid: int
    gid: int
    most: int
    """Messages that fit."""
    size: int
    """Bytes that one may have."""
    messages: Sequence[tuple[int, bytes]]
    """Priority and text, in the order in which they are received."""


def queues() -> tuple[QueueStatus, ...]:
    """Return all queues, whether any process has them open or not.

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
        return tuple(_status(mount, name) for name in sorted(os.listdir(f"/proc/self/fd/{mount}/")))  # noqa: PTH208 - a descriptor
    finally:
        os.close(mount)


def _status(mount: int, name: str) -> QueueStatus:
    with os.fdopen(os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=mount)) as file:
        found, messages = _STATUS.match(file.read()), _attributes(file.fileno())[3]
    return QueueStatus(name, int(found[1]), found[2] != "0", messages) if found else QueueStatus(name)


def take(name: str) -> QueueState:
    """Return all of a queue, and leave no message in it, but for those that come meanwhile: they may come for ever."""
    queue = open_queue(name, os.O_RDONLY | os.O_NONBLOCK)
    try:
        about = os.fstat(queue)
        _, most, size, held, *_ = _attributes(queue)
        messages = list(islice(_received(queue, size), held))
    finally:
        os.close(queue)
    return QueueState(name, about.st_mode & 0o7777, about.st_uid, about.st_gid, most, size, messages)


def make(wanted: QueueState, note: Callable[[str], object]) -> None:
    """Make a queue with its messages; a FileExistsError says that there is one of its name.

    Args:
        wanted: what it is to be.
        note: called with its name when it is there, before it has messages.
    """
    queue = _created(wanted)
    try:
        note(wanted.name)
        os.fchown(queue, wanted.uid, wanted.gid)
        os.fchmod(queue, wanted.mode)
        for priority, text in wanted.messages:
            checked(
                LIBC.syscall(_SEND, queue, text, ctypes.c_size_t(len(text)), priority, None), f"queue {wanted.name}"
            )
    finally:
        os.close(queue)


def _created(wanted: QueueState) -> int:
    """Make a queue as its owner: the kernel counts a user's on the whole node (RLIMIT_MSGQUEUE).

    One that is larger than its owner may make is made by us, as a process with our rights did.
    """
    attributes = _ATTRIBUTE.pack(0, wanted.most, wanted.size, 0, 0, 0, 0, 0)
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NONBLOCK
    try:
        with as_creator(wanted.uid, wanted.gid):
            return open_queue(wanted.name, flags, attributes)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
    return open_queue(wanted.name, flags, attributes)


def open_queue(name: str, flags: int, attributes: bytes | None = None) -> int:
    """Open a queue; the descriptor is the caller's. ``attributes``: of one that is made."""
    return checked(LIBC.syscall(_OPEN, os.fsencode(name), flags | os.O_CLOEXEC, 0o600, attributes), f"queue {name}")


def unlink(names: Iterable[str]) -> None:
    """Remove queues, there or not."""
    for name in names:
        with suppress(FileNotFoundError):
            checked(LIBC.syscall(_UNLINK, os.fsencode(name)), f"queue {name}")


def _attributes(queue: int) -> tuple[int, ...]:
    found = ctypes.create_string_buffer(_ATTRIBUTE.size)
    checked(LIBC.syscall(_ATTRIBUTES, queue, None, found), "mq_getattr")
    return tuple(_ATTRIBUTE.unpack(found.raw))


def _received(queue: int, size: int) -> Iterator[tuple[int, bytes]]:
    text, priority = ctypes.create_string_buffer(size), ctypes.c_uint()
    while True:
        try:
            length = checked(
                LIBC.syscall(_RECEIVE, queue, text, ctypes.c_size_t(size), ctypes.byref(priority), None), "mq_receive"
            )
        except BlockingIOError:
            return
        yield priority.value, text.raw[:length]
