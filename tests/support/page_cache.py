"""What the kernel has of a file in page cache."""

import ctypes
import mmap
from pathlib import Path

from linux.syscalls import LIBC


def cached_pages(path: Path) -> int:
    """Return how many pages of a file are there; to look brings none."""
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as memory:
        pages = (ctypes.c_ubyte * -(-len(memory) // mmap.PAGESIZE))()
        start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        assert 0 == LIBC.mincore(ctypes.c_void_p(start), ctypes.c_size_t(len(memory)), pages)
        return sum(page & 1 for page in pages)
