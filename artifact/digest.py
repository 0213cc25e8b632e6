"""Checksums of files and manifests: blake3, as everywhere in artifacts."""

import os

from blake3 import blake3


def sum_of(fd: int) -> str:
    """Return the blake3 of a file's content, hex; on all cores, the page cache mapped."""
    hasher = blake3(max_threads=blake3.AUTO)
    if os.fstat(fd).st_size:  # an empty file cannot be mapped
        hasher.update_mmap(f"/proc/self/fd/{fd}")
    return hasher.hexdigest()


def digest_of(manifest: bytes) -> str:
    """Return the digest that a DynamoCheckpoint keeps."""
    return f"blake3:{blake3(manifest).hexdigest()}"
