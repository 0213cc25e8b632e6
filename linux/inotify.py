"""Changes in directories, reported by the kernel: inotify(7), one instance for all of them.

Instances are few (128 for all processes of a user), watches are many.
"""

import os
import struct
import weakref
from typing import Final

from linux.syscalls import LIBC, checked

MODIFY: Final = 0x2
"""A file in the directory was written."""
_ONLY_DIRECTORIES: Final = 0x01000000
_EVENT: Final = struct.Struct("=iIII")
"""watch, events, cookie, length of the name."""
_BYTES: Final = 65536


class Inotify:
    """Watched directories; the descriptor is readable once one has changed.

    Raises:
        OSError: the user has as many instances as it may.
    """

    def __init__(self) -> None:
        self.fd: Final = checked(LIBC.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK), "inotify")
        weakref.finalize(self, os.close, self.fd)

    def watch(self, directory: int, events: int) -> int:
        """Watch an open directory; return the number of the watch, the same for the same directory.

        Raises:
            OSError: the user has as many watches as it may.
        """
        path = f"/proc/self/fd/{directory}".encode()
        return checked(LIBC.inotify_add_watch(self.fd, path, events | _ONLY_DIRECTORIES), "inotify watch")

    def forget(self, watch: int) -> None:
        """End a watch; one that has ended with its directory is as good."""
        LIBC.inotify_rm_watch(self.fd, watch)

    def changed(self) -> set[int]:
        """Return the watches whose directories have changed since the last call."""
        try:
            found = os.read(self.fd, _BYTES)
        except BlockingIOError:
            return set()
        watches, at = set[int](), 0
        while at < len(found):
            watch, _, _, length = _EVENT.unpack_from(found, at)
            watches.add(watch)
            at += _EVENT.size + length
        return watches
