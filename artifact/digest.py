"""Checksums of files and manifests: blake3, as everywhere in artifacts."""

import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final

from blake3 import blake3

SumOf = Callable[[int], str]
_READERS: Final = 8
_BLOCK: Final = 8 << 20
"""Bytes that one reader reads at once."""


def sum_of(fd: int) -> str:
    """Return the blake3 of a file that only agents write, hex; on all cores, the page cache mapped."""
    hasher = blake3(max_threads=blake3.AUTO)
    if os.fstat(fd).st_size:  # an empty file cannot be mapped
        hasher.update_mmap(f"/proc/self/fd/{fd}")
    return hasher.hexdigest()


def sum_of_others(fd: int) -> str:
    """Return the blake3 of a file that others may cut short meanwhile: what is mapped would end this process then.

    The next block is read while the sum of one is taken.

    Raises:
        OSError: it cannot be read, or became shorter.
    """
    hasher, size = blake3(max_threads=blake3.AUTO), os.fstat(fd).st_size
    buffers = [memoryview(bytearray(min(size, _READERS * _BLOCK))) for _ in range(2)]
    with ThreadPoolExecutor(_READERS, thread_name_prefix="sum") as readers:

        def begin(at: int) -> tuple[memoryview, list[Future[None]]]:
            view = buffers[at // (_READERS * _BLOCK) % 2][: max(0, size - at)]
            starts = range(0, len(view), _BLOCK)
            return view, [readers.submit(_read, fd, view[start : start + _BLOCK], at + start) for start in starts]

        view, reads = begin(0)
        for at in range(0, size, _READERS * _BLOCK):
            for read in reads:
                read.result()
            following = begin(at + _READERS * _BLOCK)
            hasher.update(view)
            view, reads = following
    return hasher.hexdigest()


def _read(fd: int, into: memoryview, at: int) -> None:
    while into:
        done = os.preadv(fd, [into], at)
        if not done:
            raise OSError("it became shorter")
        into, at = into[done:], at + done


def digest_of(manifest: bytes) -> str:
    """Return the digest that a DynamoCheckpoint keeps."""
    return f"blake3:{blake3(manifest).hexdigest()}"
