"""Remembers which files this agent has read whole and found right, so that a restore need not read them again.

Reading 20 GiB takes seconds, and a restore that fills memory while the worker runs takes less than one. A file is
known by what the file system says of it: device, inode, size and the times of its last changes. Any write to it, by
whatever name, changes the last of these, and the file is read again. What this does not see is a change below the file
system, such as a failing disk: config.restore.verify Always reads every file for every restore.
"""

import os
import threading
import time
from collections import OrderedDict
from typing import Final, NamedTuple
from weakref import WeakValueDictionary

from artifact.digest import SumOf

MOST_FILES: Final = 4096
"""A few hundred bytes each; those that were not used for the longest time are forgotten first."""

SETTLED_SECONDS: Final = 2.0
"""A file that was changed less long ago is not remembered: some file systems keep times by the second, and a second
change within it would not show."""


class Identity(NamedTuple):
    """What a file is known by, with the sum that it should have."""

    device: int
    inode: int
    size: int
    modified: int
    changed: int
    """When anything of it was changed last, nanoseconds; no program can set that."""
    blake3: str


def identity_of(fd: int, blake3: str) -> Identity:
    """Return what an open file is known by."""
    now = os.fstat(fd)
    return Identity(now.st_dev, now.st_ino, now.st_size, now.st_mtime_ns, now.st_ctime_ns, blake3)


class _Reader:
    """Who reads a file; others wait."""

    def __init__(self) -> None:
        self.lock = threading.Lock()


class VerifiedFiles:
    """Files that were found right, until the agent ends."""

    def __init__(self, most: int = MOST_FILES) -> None:
        self._most = most
        self._known: OrderedDict[Identity, None] = OrderedDict()
        self._lock = threading.Lock()
        self._being_read: WeakValueDictionary[Identity, _Reader] = WeakValueDictionary()

    def has(self, fd: int, blake3: str, by: SumOf) -> bool:
        """Say whether a file has that sum: it is known, or is read now, by one of those who ask at once.

        Args:
            fd: the file, open for reading.
            blake3: the sum.
            by: how it is read; ``artifact.digest.sum_of_others`` if others can write there.

        Raises:
            OSError: it cannot be read, or became shorter.
        """
        if self.knows(fd, blake3):
            return True
        before = identity_of(fd, blake3)
        with self._lock:
            reader = self._being_read.setdefault(before, _Reader())
        with reader.lock:
            if self.knows(fd, blake3):
                return True
            if by(fd) != blake3:
                return False
            self.remember(before, fd, blake3)
            return True

    def knows(self, fd: int, blake3: str) -> bool:
        """Say whether this very file was found to have that sum, and has not changed since."""
        identity = identity_of(fd, blake3)
        with self._lock:
            if identity not in self._known:
                return False
            self._known.move_to_end(identity)
            return True

    def remember(self, before: Identity, fd: int, blake3: str) -> None:
        """Note that it has that sum, if it is still what it was *before* it was read."""
        if before != identity_of(fd, blake3) or time.time() - os.fstat(fd).st_ctime < SETTLED_SECONDS:
            return
        with self._lock:
            self._known[before] = None
            while len(self._known) > self._most:
                self._known.popitem(last=False)
