"""Open files of a process, read from /proc/PID/fd and fdinfo."""

import errno
import fcntl
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

from linux.anonymous import Anonymous, anonymous
from linux.mapped import unlinked_bytes
from linux.proc import PROC, read_plainly
from linux.syscalls import HUGETLBFS_MAGIC, MQUEUE_MAGIC, file_system_magic

INOTIFY: Final = "anon_inode:inotify"
FANOTIFY: Final = "anon_inode:[fanotify]"
MEMFD: Final = "/memfd:"
_PIPE: Final = "pipe:"
_FLAGS: Final = re.compile(r"^flags:\s*([0-7]+)$", re.MULTILINE)
_PLAIN_FLAGS: Final = re.compile(rb"^flags:\s*([0-7]+)$", re.MULTILINE)
_MOUNT: Final = re.compile(r"^mnt_id:\s*(\d+)$", re.MULTILINE)
_LOCK: Final = re.compile(r"^lock:.*\bPOSIX\b", re.MULTILINE)
_LEASE: Final = re.compile(r"^lock:.*\bLEASE\b", re.MULTILINE)
_WATCH: Final = re.compile(r"^(?:inotify|fanotify) .*\bino:([0-9a-f]+) sdev:([0-9a-f]+)", re.MULTILINE)
_UNDUMPABLE: Final = re.compile(r"^(?:inotify|fanotify) .*\bfhandle-type:81\b", re.MULTILINE)
"""FILEID_INO64_GEN: of file systems that find no file by such a handle, which are the kernel's own."""
_DECIDES: Final = re.compile(r"^fanotify flags:[0-9a-f]*[4-9a-f] ", re.MULTILINE)
"""FAN_CLASS_CONTENT, FAN_CLASS_PRE_CONTENT."""
_MINOR_BITS: Final = 20
"""Of a device number in the kernel, which fdinfo shows; stat has another layout."""


class Descriptor(NamedTuple):
    """One open file."""

    number: int
    target: str
    """What the link says: a path, ``socket:[123]``, ``anon_inode:[eventpoll]``."""
    mount: int = 0
    """The number of a path's mount in mountinfo."""
    is_message_queue: bool = False
    """It is a POSIX message queue, whose path is that of no mount: ``/jobs``; or one that was removed."""
    is_writable_file: bool = False
    """It is a regular file with a name, open for writing at any place: not only at its end, as a log file is."""
    is_own_file: bool = False
    """It is a regular file with a name, open for writing in any way."""
    bytes: int = 0
    """That a regular file with a name holds which is open for writing in any way."""
    is_device: bool = False
    """It is a character or block device."""
    is_handle: bool = False
    """It only names a socket, a FIFO, a message queue, or what is in no file system (O_PATH), and is none."""
    anonymous: Anonymous | None = None
    is_packet_pipe: bool = False
    """It is a pipe that keeps apart what was written apart (O_DIRECT)."""
    protocol: str = ""
    """Of a socket, as the kernel names it: ``TCP``, ``UNIX-STREAM``, ``AF_VSOCK``."""
    is_huge: bool = False
    """It is a file of huge pages without a name (memfd)."""
    sealed_inode: int = 0
    """The inode of a memfd that is sealed against writing; 0 for all else."""
    watches: tuple[tuple[int, int], ...] = ()
    """What inotify or fanotify watches: the device of its file system, as stat numbers it, and the inode."""
    deleted: tuple[int, int] | None = None
    """Device and inode of a file or folder that has no name any more."""
    unlinked_bytes: int = 0
    """That a file holds which has no name any more; 0 for memory (memfd)."""
    is_locked: bool = False
    """The process has a POSIX record lock by it."""
    is_async: bool = False
    """It sends signals (O_ASYNC); of sockets that is not read."""
    is_leased: bool = False
    """To open the file would break a lease of it (F_SETLEASE)."""
    watches_kernel: bool = False
    """It is inotify or fanotify, and watches files of /proc, /sys or the like."""
    decides: bool = False
    """It is fanotify, and files are opened only once its process has said so."""
    is_on_its_way: bool = False
    """No process has it open: it waits in a Unix socket, of which ``number`` is the descriptor."""

    @property
    def socket(self) -> int | None:
        """The number of the inode if it is a socket."""
        return int(self.target[8:-1]) if self.target.startswith("socket:[") else None


@cache
def memory_device() -> int:
    """Return the device that holds each memfd but those of huge pages, all shared anonymous memory, and nothing else.

    The name says nothing: a worker may call a file of its root folder so.
    """
    found = os.memfd_create("device", os.MFD_CLOEXEC)
    try:
        return os.fstat(found).st_dev
    finally:
        os.close(found)


def mount_number(number: int) -> int | None:
    """Return the number in mountinfo of the mount that a descriptor of ours is on."""
    found = _MOUNT.search(Path(f"/proc/self/fdinfo/{number}").read_text())
    return int(found[1]) if found else None


def descriptors(pid: int, proc: Path = PROC) -> list[Descriptor]:
    """Return the open files of a process; one that is closed meanwhile is left out.

    Of those that are neither paths, pipes nor inotify little more than the link is read: a worker may have ten thousand
    sockets.
    """
    found, base = [], proc / str(pid)
    with suppress(FileNotFoundError, ProcessLookupError), os.scandir(base / "fd") as entries:
        for entry in entries:
            try:  # not suppress(), which takes as long as one of the two calls
                target = os.readlink(entry.path)  # noqa: PTH115 - ten thousand paths take longer to make than to read
                found.append(_descriptor(int(entry.name), target, base, entry.path))
            except OSError:
                continue
    return found


def own_descriptor(number: int) -> Descriptor:
    """Return a descriptor of this process."""
    path = f"/proc/self/fd/{number}"
    return _descriptor(number, os.readlink(path), PROC / "self", path)  # noqa: PTH115 - a text, maybe of no path


def _descriptor(number: int, target: str, base: Path, path: str) -> Descriptor:
    if target.startswith("socket:"):
        return Descriptor(number, target, protocol=_protocol(path))
    if target.startswith(_PIPE):
        flags = _flags_of(f"{base}/fdinfo/{number}")
        return Descriptor(number, target, is_packet_pipe=bool(flags & os.O_DIRECT), is_async=bool(flags & os.O_ASYNC))
    if target not in (INOTIFY, FANOTIFY) and not target.startswith("/"):
        what = anonymous(target, f"{base}/fdinfo/{number}", base.parent)
        return Descriptor(number, target, anonymous=what, is_handle=what is not None and what.is_handle)
    link, info = base / "fd" / str(number), base / "fdinfo" / str(number)
    if target in (INOTIFY, FANOTIFY):
        text = info.read_text()
        watches = {(_as_stat(int(device, 16)), int(inode, 16)) for inode, device in _WATCH.findall(text)}
        return Descriptor(
            number,
            target,
            watches=tuple(sorted(watches)),
            decides=_DECIDES.search(text) is not None,
            watches_kernel=_UNDUMPABLE.search(text) is not None,
        )
    found, text = link.stat(), info.read_text()
    match = _FLAGS.search(text)
    flags = int(match[1], 8) if match else 0
    deleted = (found.st_dev, found.st_ino) if found.st_nlink == 0 else None
    magic = file_system_magic(str(link)) if deleted or target.count("/") == 1 else 0
    if magic == MQUEUE_MAGIC:
        return Descriptor(number, target, is_message_queue=True, deleted=deleted, is_handle=bool(flags & os.O_PATH))
    mount = _MOUNT.search(text)
    is_named_file = stat.S_ISREG(found.st_mode) and found.st_nlink > 0
    is_own_file = flags & os.O_ACCMODE != os.O_RDONLY and is_named_file
    return Descriptor(
        number,
        target,
        mount=int(mount[1]) if mount else 0,
        is_writable_file=_writes(flags) and is_named_file,
        is_locked=_LOCK.search(text) is not None,
        is_leased=_LEASE.search(text) is not None,
        is_own_file=is_own_file,
        is_async=bool(flags & os.O_ASYNC),
        bytes=found.st_size if is_own_file else 0,
        is_device=stat.S_ISCHR(found.st_mode) or stat.S_ISBLK(found.st_mode),
        is_handle=bool(flags & os.O_PATH)
        and (stat.S_ISSOCK(found.st_mode) or stat.S_ISFIFO(found.st_mode) or _is_memfd(target, deleted)),
        is_huge=magic == HUGETLBFS_MAGIC and found.st_nlink == 0,
        deleted=deleted,
        unlinked_bytes=unlinked_bytes(target, found),
        sealed_inode=_sealed(link) if _is_memfd(target, deleted) else 0,
    )


def _is_memfd(target: str, deleted: tuple[int, int] | None) -> bool:
    return deleted is not None and target.startswith(MEMFD)


def _flags_of(info: str) -> int:
    match = _PLAIN_FLAGS.search(read_plainly(info))  # a worker may have ten thousand pipes
    return int(match[1], 8) if match else 0


def _protocol(link: str) -> str:
    """Return the name of a socket's protocol; empty from a kernel that does not say."""
    try:
        return _as_name(os.getxattr(link, "system.sockprotoname"))
    except OSError:
        return ""


@cache
def _as_name(value: bytes) -> str:
    return value.rstrip(b"\0").decode("ascii", "replace")


def _sealed(link: Path) -> int:
    """Return the inode of a memfd if it is sealed against writing, else 0."""
    with suppress(OSError), open_regular(link) as file:  # a file system without seals
        return os.fstat(file).st_ino if fcntl.fcntl(file, fcntl.F_GET_SEALS) & fcntl.F_SEAL_WRITE else 0
    return 0


@contextmanager
def open_regular(link: Path | str) -> Iterator[int]:
    """Open what a link of /proc leads to, if it is a regular file; yields a descriptor to read by.

    The name says nothing: a worker may call a pipe as it likes, and to open that would wait for a writer.

    Raises:
        OSError: it is no regular file, or cannot be opened.
    """
    held = os.open(link, os.O_PATH | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(held).st_mode):
            raise OSError(errno.EINVAL, "no regular file", str(link))
        file = os.open(f"/proc/self/fd/{held}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    finally:
        os.close(held)
    try:
        yield file
    finally:
        os.close(file)


def _writes(flags: int) -> bool:
    """Say whether a descriptor may change what a file holds; criu, too, lets log files grow meanwhile."""
    mode = flags & os.O_ACCMODE
    return mode != os.O_RDONLY and not (mode == os.O_WRONLY and flags & os.O_APPEND)


def _as_stat(device: int) -> int:
    return os.makedev(device >> _MINOR_BITS, device & ((1 << _MINOR_BITS) - 1))
