"""Checksums of files and manifests: blake3, as everywhere in artifacts."""

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from blake3 import blake3

_READERS: Final = 8
_BLOCK: Final = 8 << 20
"""Bytes that one reader reads at once."""


def sum_of(fd: int) -> str:
    """Return the blake3 of a file's content, hex; on all cores, the page cache mapped."""
    hasher = blake3(max_threads=blake3.AUTO)
    if os.fstat(fd).st_size:  # an empty file cannot be mapped
        hasher.update_mmap(f"/proc/self/fd/{fd}")
    return hasher.hexdigest()


def sum_of_others(fd: int) -> str:
    """Return the blake3 of a file that others may cut short meanwhile: what is mapped would end this process then.

    Raises:
        OSError: it cannot be read, or became shorter.
    """
    hasher, size, whole = (
        blake3(max_threads=blake3.AUTO),
        os.fstat(fd).st_size,
        memoryview(bytearray(_READERS * _BLOCK)),
    )
    with ThreadPoolExecutor(_READERS, thread_name_prefix="sum") as readers:
        for at in range(0, size, len(whole)):
            view = whole[: size - at]
            starts = range(0, len(view), _BLOCK)
            list(
                readers.map(lambda start, at=at, view=view: _read(fd, view[start : start + _BLOCK], at + start), starts)
            )
            hasher.update(view)
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
