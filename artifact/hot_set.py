"""The hot set: which pages a worker touched from its restore to its first answers, in the order in which it did.

A file beside the manifest, which does not name it: the manifest was sealed before the proof that records this. So it is
a hint. It may change the order in which pages are filled, and nothing else; one that is not whole, or is of another
artifact, is not used. What the ranges in it mean, the page server says and checks (``native/page_server/hot.c``).
"""

import os
from typing import Final

from blake3 import blake3

from artifact.beneath import open_file
from artifact.errors import ArtifactError
from artifact.publish import Staging
from artifact.read import Artifact
from contract.api.states import AgentReason

HOT_SET: Final = "hot-set"
MOST_RANGES: Final = 65536
RANGE_BYTES: Final = 16
"""u32 pid, u32 pages, u64 offset in the process's file of pages; little-endian."""
_MAGIC: Final = b"hot-set 1 16/64\n"
_SUM_BYTES: Final = 32
_HEAD_BYTES: Final = len(_MAGIC) + _SUM_BYTES


class BadHotSetError(Exception):
    """Something that is no hot set of this artifact; the message says why."""


def pack(ranges: bytes, digest: str) -> bytes:
    """Return the content of the file, for the artifact whose manifest has that digest; pure."""
    return _MAGIC + _sum(ranges, digest) + ranges


def unpack(content: bytes, digest: str) -> bytes:
    """Return the ranges in a file's content; pure.

    Raises:
        BadHotSetError: it is not one that was made for this artifact.
    """
    ranges = content[_HEAD_BYTES:]
    if not content.startswith(_MAGIC):
        raise BadHotSetError("it begins otherwise than a hot set of this release")
    if len(ranges) > MOST_RANGES * RANGE_BYTES or len(ranges) % RANGE_BYTES:
        raise BadHotSetError(f"it has {len(ranges)} bytes of ranges")
    if content[len(_MAGIC) : _HEAD_BYTES] != _sum(ranges, digest):
        raise BadHotSetError("it is damaged, or of another artifact")
    return ranges


def _sum(ranges: bytes, digest: str) -> bytes:
    return blake3(digest.encode() + b"\n" + ranges).digest()


def hot_bytes(ranges: bytes) -> int:
    """Return how much memory ranges name; pure."""
    return sum(int.from_bytes(ranges[at + 4 : at + 8], "little") for at in range(0, len(ranges), RANGE_BYTES)) * 4096


def write_hot_set(staged: Staging, ranges: bytes, digest: str) -> None:
    """Put a hot set beside a sealed manifest; not synced, since one that a power cut leaves half is not used.

    Raises:
        OSError: storage refuses; what is there then is not used.
    """
    with os.fdopen(staged.file(HOT_SET), "wb") as file:
        file.write(pack(ranges, digest))


def read_hot_set(artifact: Artifact) -> bytes:
    """Return the ranges of an artifact's hot set; empty if it has none.

    Raises:
        BadHotSetError: what is there is not to be used.
    """
    most = _HEAD_BYTES + MOST_RANGES * RANGE_BYTES
    try:
        with os.fdopen(open_file(artifact.directory, HOT_SET), "rb") as file:
            content = file.read(most + 1)
    except ArtifactError as error:
        if error.code is AgentReason.ARTIFACT_MISSING:
            return b""
        raise BadHotSetError(str(error)) from error
    except OSError as error:
        raise BadHotSetError(f"it cannot be read: {error.strerror}") from error
    return unpack(content, artifact.digest)
