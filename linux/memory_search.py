"""Where in a process's own memory given bytes are."""

import ctypes
import os
import re
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Final, NamedTuple

from linux.proc import PROC

_PRIVATE: Final = re.compile(r"^([0-9a-f]+)-([0-9a-f]+) rw.p ", re.MULTILINE)
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")
_ENTRY: Final = 8
"""Bytes of /proc/PID/pagemap for each page; 0: the page is neither in memory nor swapped out."""
_PART: Final = 16 << 20
"""Bytes that are looked at in one piece."""
_memmem = ctypes.CDLL(None).memmem
_memmem.restype = ctypes.c_void_p
_memmem.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p, ctypes.c_size_t)
_STRIDE: Final = 1021
"""Between the bytes that are counted; a prime, so that all of a structure's are."""


class Found(NamedTuple):
    """A place."""

    address: int
    wanted: bytes


def find(pid: int, wanted: Collection[bytes], proc: Path = PROC) -> Iterator[Found]:
    """Yield where in a process's private memory, that it can write to, some bytes are.

    What was never touched is left out by what the kernel knows of its pages: a worker may have reserved terabytes.

    Args:
        pid: whose; stopped, or what is found may be there no more.
        wanted: none longer than a page, and none of zeros alone.
        proc: /proc of the node.

    Raises:
        OSError: it has ended.
    """
    base, overlap = proc / str(pid), max(map(len, wanted), default=1) - 1
    text = (base / "maps").read_text(errors="surrogateescape")
    with (base / "mem").open("rb", buffering=0) as memory, (base / "pagemap").open("rb", buffering=0) as pages:
        for begin, end in ((int(start, 16), int(stop, 16)) for start, stop in _PRIVATE.findall(text)):
            for at, last in _present(pages.fileno(), begin, end):
                content = os.pread(memory.fileno(), min(last + overlap, end) - at, at)
                yield from _in(content, at, last, wanted)


def _present(pages: int, begin: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield the parts of a range of memory of which anything is there."""
    for at in range(begin, end, _PART):
        last = min(at + _PART, end)
        entries = os.pread(pages, (last - at) // _PAGE * _ENTRY, at // _PAGE * _ENTRY)
        filled = len(entries) - len(entries.lstrip(b"\0")), len(entries.rstrip(b"\0"))
        if filled[1]:
            yield at + filled[0] // _ENTRY * _PAGE, at + -(-filled[1] // _ENTRY) * _PAGE


def _in(content: bytes, at: int, last: int, wanted: Collection[bytes]) -> Iterator[Found]:
    for needle in wanted:
        for place in places(content, needle):
            if place < last - at:
                yield Found(at + place, needle)


def places(content: bytes, wanted: bytes) -> Iterator[int]:
    """Yield where in some content given bytes are, which are not all zero."""
    sample = Counter(content[::_STRIDE])
    if 2 * sample[0] < sample.total():
        return _anywhere(content, wanted)
    return _by_byte(content, wanted, min((byte for byte in wanted if byte), key=lambda byte: sample[byte]))


def _anywhere(content: bytes, wanted: bytes) -> Iterator[int]:
    """Search by memmem(3), which passes over most of what is unlike what is wanted, and not over zeros."""
    start, at = ctypes.cast(ctypes.c_char_p(content), ctypes.c_void_p).value or 0, 0
    while found := _memmem(start + at, len(content) - at, wanted, len(wanted)):
        yield found - start
        at = found - start + 1


def _by_byte(content: bytes, wanted: bytes, byte: int) -> Iterator[int]:
    """Search for one byte, which does for memory that is mostly zeros."""
    before, mark = wanted.index(byte), bytes([byte])
    place = content.find(mark, before)
    while place >= 0:
        if content.startswith(wanted, place - before):
            yield place - before
        place = content.find(mark, place + 1)
