"""Device code of one architecture: the fat binaries of a CUDA extension, with the code for other cards zeroed.

A fat binary, little endian: magic, version, size of this header, size of what follows; then entries, each with a header
of its own (kind, its size, size of the code, architecture) and code. The headers stay and nothing moves, so the driver
finds the code that is left as it would find all of it; zeros compress to nothing.
"""

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

MAGIC: Final = struct.pack("<IHH", 0xBA55ED50, 1, 16)
"""With the version and the header's size, so that four bytes of other data are not taken for a fat binary."""
PTX: Final = 1
MACHINE_CODE: Final = 2
_HEADER: Final = struct.Struct("<8xQ")
_ENTRY: Final = struct.Struct("<H2xIQ12xI")


@dataclass(frozen=True)
class Entry:
    """One piece of code: bytes *start* to *end* of the file."""

    kind: int
    architecture: int
    start: int
    end: int


def fat_binaries(data: bytes | bytearray) -> Iterator[list[Entry]]:
    """Yield the entries of each fat binary of a file.

    Raises:
        ValueError: a fat binary or an entry is longer than what holds it.
    """
    at = data.find(MAGIC)
    while at >= 0:
        start = at + _HEADER.size
        end = start + _HEADER.unpack_from(data, at)[0] if start <= len(data) else start
        if end > len(data):
            raise ValueError(f"the fat binary at byte {at} is cut off")
        yield list(_entries(data, start, end))
        at = data.find(MAGIC, end)


def keep(data: bytearray, architecture: int, *, ptx: bool, kernels: str = "") -> int:
    """Zero the code for all other architectures; return how many bytes of code are left.

    Args:
        data: the file, changed in place.
        architecture: as in sm_90: 90.
        ptx: in a fat binary without machine code for it, keep the newest PTX that the architecture can compile.
        kernels: keep only code in which this expression is found; it is matched with the mangled names of kernels.
    """
    left = 0
    for entries in fat_binaries(data):
        wanted = _wanted(entries, architecture, ptx=ptx)
        for entry in entries:
            if entry in wanted and re.search(kernels.encode(), data[entry.start : entry.end]):
                left += entry.end - entry.start
            else:
                data[entry.start : entry.end] = bytes(entry.end - entry.start)
    return left


def _entries(data: bytes | bytearray, start: int, end: int) -> Iterator[Entry]:
    while start < end:
        if start + _ENTRY.size > end:
            raise ValueError(f"the entry at byte {start} is cut off")
        kind, header, size, architecture = _ENTRY.unpack_from(data, start)
        entry = Entry(kind, architecture, start + header, start + header + size)
        if header < _ENTRY.size or entry.end > end:
            raise ValueError(f"the entry at byte {start} is longer than its fat binary")
        yield entry
        start = entry.end


def _wanted(entries: list[Entry], architecture: int, *, ptx: bool) -> list[Entry]:
    exact = [entry for entry in entries if (entry.kind, entry.architecture) == (MACHINE_CODE, architecture)]
    if exact or not ptx:
        return exact
    portable = [entry for entry in entries if entry.kind == PTX and entry.architecture <= architecture]
    return sorted(portable, key=lambda entry: entry.architecture)[-1:]
