"""Record locks of a process (fcntl(2), F_SETLK): which it has, and that it takes one of them again.

They are the process's, not the open file's: the kernel drops all that it has of a file when it closes any descriptor of
that file. criu takes them first and closes the file of each mapping then, so of a file that is mapped they are lost.
"""

import os
import re
import struct
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path
from typing import Final, NamedTuple

from linux.proc import PROC
from linux.ptrace.lent_call import borrowed

_FCNTL, _SETLK = 72, 6
_READ, _WRITE = 0, 1
"""F_RDLCK, F_WRLCK."""
_FLOCK: Final = struct.Struct("hhxxxxqqixxxx")
"""``struct flock`` of x86-64: l_type, l_whence, l_start, l_len, l_pid."""
_LOCK: Final = re.compile(r"^lock:\s+\d+: POSIX +\S+ +(READ|WRITE) +-?\d+ \S+ (\d+) (\d+|EOF)$", re.MULTILINE)
_FLAGS: Final = re.compile(r"^flags:\s*([0-7]+)$", re.MULTILINE)
_MODES: Final = {"READ": (os.O_RDONLY, os.O_RDWR), "WRITE": (os.O_WRONLY, os.O_RDWR)}


class RecordLock(NamedTuple):
    """A lock of one range of a file."""

    descriptor: int
    """By which it was taken."""
    exclusive: bool
    start: int
    end: int | None
    """Its last byte; None: whatever the file's end is."""


def missing(pid: int, wanted: Iterable[RecordLock], proc: Path = PROC) -> list[RecordLock]:
    """Return those of some locks that a process has not, though it has a descriptor that can take them.

    Args:
        pid: whose.
        wanted: of a file that is open twice, the same lock may come for each descriptor.
        proc: /proc of the node.

    Raises:
        OSError: it has ended, or has no such descriptor.
    """
    found = list[RecordLock]()
    for number, locks in groupby(sorted(wanted, key=_descriptor), _descriptor):
        text = (proc / str(pid) / "fdinfo" / str(number)).read_text()
        there, mode = set(_LOCK.findall(text)), _access(text)
        for lock in locks:
            kind, end = "WRITE" if lock.exclusive else "READ", "EOF" if lock.end is None else str(lock.end)
            if mode in _MODES[kind] and (kind, str(lock.start), end) not in there:
                found.append(lock)
    return found


def _descriptor(lock: RecordLock) -> int:
    return lock.descriptor


def _access(text: str) -> int:
    match = _FLAGS.search(text)
    return int(match[1], 8) & os.O_ACCMODE if match else os.O_RDONLY


def take(pid: int, locks: Iterable[RecordLock]) -> None:
    """Have a process take locks; those that it has already are as they were.

    Raises:
        BlockingIOError: another process has one of them.
        OSError: it cannot be had to, or has no such descriptor.
    """
    with borrowed(pid) as process:
        for lock in locks:
            length = 0 if lock.end is None else lock.end - lock.start + 1
            wanted = _FLOCK.pack(_WRITE if lock.exclusive else _READ, os.SEEK_SET, lock.start, length, 0)
            with process.holding(wanted) as at:
                error = -process.call(_FCNTL, lock.descriptor, _SETLK, at)
            if error:
                raise OSError(error, os.strerror(error), f"descriptor {lock.descriptor}")
