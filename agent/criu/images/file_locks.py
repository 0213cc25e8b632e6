"""Locks of files in criu's images, as its ``file-lock.proto`` has them."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Final

from agent import protobuf
from agent.criu.images.files import read_image
from agent.errors import CriuError
from contract.api.states import AgentReason
from linux.ptrace.record_locks import RecordLock

_IMAGE: Final = "filelocks.img"
_KIND, _TYPE, _PROCESS, _DESCRIPTOR, _START, _LENGTH = range(1, 7)
_POSIX: Final = 1
"""FL_POSIX: one of a process."""
_WRITE: Final = 1
"""F_WRLCK."""
_MOST_BYTES: Final = 1 << 63
"""Of a file (off_t)."""


def record_locks(directory: int) -> Mapping[int, Sequence[RecordLock]]:
    """Return the record locks of the processes in the images of a directory, as these are numbered in the container.

    Raises:
        CriuError: ``restore-failed``: the image is not what criu writes.
    """
    found = defaultdict[int, list[RecordLock]](list)
    try:
        for text in protobuf.messages(read_image(directory, _IMAGE)):
            lock = protobuf.values(text)
            if lock.get(_KIND) == _POSIX:
                found[lock.get(_PROCESS, 0)].append(_record_lock(lock))
    except FileNotFoundError:  # there are none
        return {}
    except (OSError, ValueError) as error:
        raise CriuError(AgentReason.RESTORE_FAILED, f"criu's image of file locks: {error}") from error
    return found


def _record_lock(lock: Mapping[int, int]) -> RecordLock:
    start, length = lock.get(_START, 0), lock.get(_LENGTH, 0)
    if max(start, length) >= _MOST_BYTES:
        raise ValueError(f"a lock begins at {start}, and has {length} bytes")
    end = start + length - 1 if length else None
    return RecordLock(lock.get(_DESCRIPTOR, 0), lock.get(_TYPE) == _WRITE, start, end)
