"""What an epoll descriptor watches, read from fdinfo and compared by kcmp(2)."""

import ctypes
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from linux.proc import PROC, compare_polled

_ENTRY: Final = re.compile(r"^tfd: +(\d+) .*\bino:([0-9a-f]+) ", re.MULTILINE)


class _Slot(ctypes.Structure):
    """``struct kcmp_epoll_slot``."""

    _fields_ = (("efd", ctypes.c_uint32), ("tfd", ctypes.c_uint32), ("toff", ctypes.c_uint32))


def lost_targets(pid: int, epoll: int, open_numbers: Sequence[int], proc: Path = PROC) -> Iterator[int]:
    """Yield the numbers under which files were registered that the process does not have open any more.

    They stay registered as long as another process has the file open.

    Args:
        pid: whose.
        epoll: number of the epoll descriptor.
        open_numbers: of all descriptors of the process.
        proc: /proc of the node.

    Raises:
        OSError: the process has ended.
    """
    descriptors, seen = f"{proc}/{pid}/fd", Counter[int]()
    anonymous = _inode_of(f"{descriptors}/{epoll}")
    for number, inode in _ENTRY.findall((proc / str(pid) / "fdinfo" / str(epoll)).read_text()):
        slot = _Slot(epoll, int(number), seen[int(number)])
        seen[int(number)] += 1
        # The kernel goes through all entries for each comparison, and eventfds and their like have one inode for all.
        is_that = int(inode, 16) not in (0, anonymous) and _inode_of(f"{descriptors}/{number}") == int(inode, 16)
        if not is_that and not _is_open(pid, slot, (int(number), *open_numbers)):
            yield int(number)


def _inode_of(link: str) -> int:
    with suppress(OSError):
        return os.stat(link).st_ino  # noqa: PTH116 - of each of ten thousand
    return 0


def _is_open(pid: int, slot: _Slot, open_numbers: Sequence[int]) -> bool:
    found = [compare_polled(pid, number, ctypes.addressof(slot)) for number in open_numbers]
    return 0 in found or max(found) < 0  # none can be compared where the kernel lacks kcmp
