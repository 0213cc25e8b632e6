"""Where in a process's own memory given bytes are."""

import ctypes
import errno
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
"""Bytes of /proc/PID/pagemap for each page."""
_IS_THERE: Final = bytes(bool(byte & 0xC0) for byte in range(256))
"""Of the last of these bytes: whether the page is in memory (bit 63) or swapped out (62). Others say more, such as that
it was written to since last asked (55), which is so of memory that was never touched."""
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
    content: bytes
    """What was searched for, and what is around it."""


class Around(NamedTuple):
    """How many bytes are wanted around what is searched for."""

    before: int = 0
    behind: int = 0


_NOTHING: Final = Around()


def find(pid: int, wanted: Collection[bytes], around: Around = _NOTHING, proc: Path = PROC) -> Iterator[Found]:
    """Yield where in a process's private memory, that it can write to, some bytes are.

    What was never touched is left out by what the kernel knows of its pages: a worker may have reserved terabytes.

    Args:
        pid: whose; stopped, or what is found may be there no more.
        wanted: none of zeros alone, and with what is around them none longer than a page.
        around: what else belongs to a place; one that the memory's begin or end cuts off is left out.
        proc: /proc of the node.

    Raises:
        OSError: it has ended.
    """
    if not wanted:
        return
    base, longest = proc / str(pid), around.before + max(map(len, wanted)) + around.behind
    text = (base / "maps").read_text(errors="surrogateescape")
    with (base / "mem").open("rb", buffering=0) as memory, (base / "pagemap").open("rb", buffering=0) as pages:
        for begin, end in ((int(start, 16), int(stop, 16)) for start, stop in _PRIVATE.findall(text)):
            for at, last in _present(pages.fileno(), begin, end):
                first, behind = max(at - around.before, begin), min(last + longest, end)
                for start, content in _readable(memory.fileno(), first, behind):
                    yield from _in(content, start, range(at, last), wanted, around)


def _present(pages: int, begin: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield the parts of a range of memory of which anything is there."""
    for at in range(begin, end, _PART):
        last = min(at + _PART, end)
        entries = os.pread(pages, (last - at) // _PAGE * _ENTRY, at // _PAGE * _ENTRY)
        there = entries[_ENTRY - 1 :: _ENTRY].translate(_IS_THERE)
        if b"\1" in there:
            yield at + there.index(1) * _PAGE, at + (there.rindex(1) + 1) * _PAGE


def _readable(memory: int, begin: int, end: int) -> Iterator[tuple[int, bytes]]:
    """Yield what can be read of a range of memory, without pages that cannot be read, such as guard pages."""
    at = begin
    while at < end:
        try:
            content = os.pread(memory, end - at, at)
        except OSError as error:
            if error.errno not in (errno.EIO, errno.EFAULT):
                raise
            content = b""
        if content:
            yield at, content
        at = at + len(content) if content else (at // _PAGE + 1) * _PAGE


def _in(content: bytes, at: int, part: range, wanted: Collection[bytes], around: Around) -> Iterator[Found]:
    """Yield the places that begin in a part of memory; *content* begins at an address before it, or where it begins."""
    for needle in wanted:
        for place in places(content, needle):
            start, end = place - around.before, place + len(needle) + around.behind
            if at + place in part and start >= 0 and end <= len(content):
                yield Found(at + start, content[start:end])


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
