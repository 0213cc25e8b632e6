"""Protection keys of a process (pkeys(7)): which it has allocated, and what of its memory is under them.

criu carries neither. The rights of a thread are in one of its registers, which criu does carry.
"""

import errno
import os
import platform
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from linux.proc import PROC
from linux.ptrace.lent_call import Borrowed, borrowed
from linux.syscalls import LIBC

KEYS: Final = range(1, 16)
"""Key 0 is what all memory is under that has no other."""
_MPROTECT, _ALLOCATE, _FREE = 329, 330, 331
_NO_ACCESS: Final = 1
_NOWHERE, _LENGTH = 1 << 56, 4096
"""An address that no process can have memory at."""
_BITS: Final = {"r": 1, "w": 2, "x": 4}
_EXECUTE_ONLY: Final = "--x"
"""Memory for which the kernel itself takes a key."""
_ENTRY: Final = re.compile(r"^([0-9a-f]+)-([0-9a-f]+) ([r-][w-][x-])[ps] ")
_KEY: Final = re.compile(r"^ProtectionKey:\s+([0-9]+)$")


@dataclass(frozen=True, slots=True)
class KeyRange:
    """Memory that is under a key."""

    start: int
    end: int
    key: int
    protection: str
    """As /proc/PID/maps has it: ``rw-``."""


class NoKeyError(Exception):
    """A process cannot have a key again."""


@cache
def are_there() -> bool:
    """Say whether processor and kernel have them, by taking one and giving it back."""
    if platform.machine() != "x86_64":
        return False
    key = int(LIBC.syscall(_ALLOCATE, 0, _NO_ACCESS))
    return key > 0 and LIBC.syscall(_FREE, key) == 0


def allocated(pid: int) -> list[int]:
    """Return the keys of a process; not one that the kernel took for memory that can only be run.

    Nothing of the process is changed: memory that is not there can be put under no key, and the kernel says so once it
    has found the key to be allocated.

    Raises:
        OSError: it cannot be asked.
        OtherCallsError: it is of 32 bits.
    """
    with borrowed(pid) as process:
        return [key for key in KEYS if _is_allocated(process, key)]


def ranges(pid: int, proc: Path = PROC) -> list[KeyRange]:
    """Return what of a process's memory is under a key that it has allocated.

    Raises:
        OSError: it has ended.
    """
    with (proc / str(pid) / "smaps").open(errors="surrogateescape") as lines:
        return list(parse_ranges(lines))


def parse_ranges(smaps: Iterable[str]) -> Iterator[KeyRange]:
    """Parse lines of /proc/PID/smaps."""
    entry = None
    for line in smaps:
        if found := _ENTRY.match(line):
            entry = found
        elif entry and (key := _KEY.match(line)) and int(key[1]) and entry[3] != _EXECUTE_ONLY:
            yield KeyRange(int(entry[1], 16), int(entry[2], 16), int(key[1]), entry[3])


def give(pid: int, keys: Iterable[int], under: Iterable[KeyRange]) -> None:
    """Have a process allocate these keys, and put its memory under them.

    Raises:
        NoKeyError: the kernel refuses.
        OSError: it cannot be had to.
    """
    wanted = set(keys)
    with borrowed(pid) as process:
        state = process.state()
        free = _take_all(process)
        if missing := sorted(wanted - set(free)):
            raise NoKeyError(f"key {missing[0]} is taken, or there is none")
        for key in set(free) - wanted:
            process.call(_FREE, key)
        for each in under:
            bits = sum(bit for letter, bit in _BITS.items() if letter in each.protection)
            if process.call(_MPROTECT, each.start, each.end - each.start, bits, each.key) != 0:
                raise NoKeyError(f"memory at {each.start:#x} cannot be put under key {each.key}")
        process.put_state(state)


def _is_allocated(process: Borrowed, key: int) -> bool:
    answer = -process.call(_MPROTECT, _NOWHERE, _LENGTH, 0, key)
    if answer not in (errno.ENOMEM, errno.EINVAL):
        raise OSError(answer, os.strerror(answer), f"key {key}")
    return answer == errno.ENOMEM


def _take_all(process: Borrowed) -> list[int]:
    found = list[int]()
    while (key := process.call(_ALLOCATE, 0, _NO_ACCESS)) > 0:
        found.append(key)
    return found
