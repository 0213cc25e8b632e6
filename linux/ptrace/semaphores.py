"""Whether a process has anything that System V semaphores get back at its end (SEM_UNDO).

The kernel does not show what that is. But it refuses an operation that would take it beyond its range, and undoes all
operations of a call if one of them fails. So the process makes calls that cannot succeed: which error comes says
whether there is something, and nothing has changed.
"""

import errno
import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from linux.ipc.calls import semaphore_values
from linux.ptrace.lent_call import Borrowed, borrowed

_SEMOP: Final = 65
_NO_WAIT, _UNDO = 0o4000, 0x1000
_MOST: Final = 0x7FFF
"""Of a semaphore, and of what is undone; the least of that is one below its negative."""
_AT_ONCE: Final = 8
"""Semaphores in one call: their operations take some 400 bytes of the process's stack."""
_TRIES: Final = 5
_OPERATION: Final = struct.Struct("=Hhh")


class HiddenError(Exception):
    """The process may not use the semaphores (any more), so it cannot be asked."""


def undoes(pid: int, sets: Mapping[int, int]) -> bool:
    """Say whether a process has anything to undo; to be called in its IPC namespace.

    Of a worker that runs it says what is so for a while: others may change a semaphore between the look at its value
    and the call, which looks the same.

    Args:
        pid: of a process of x86-64.
        sets: how many semaphores there are, by the id of their set.

    Raises:
        HiddenError: this cannot be found out.
        OSError: it cannot be traced, or has ended.
    """
    with borrowed(pid) as process:
        return any(
            all(_answer(process, number, count, start) == errno.ERANGE for _ in range(_TRIES))
            for number, count in sets.items()
            for start in range(0, count, _AT_ONCE)
        )


def _answer(process: Borrowed, number: int, count: int, start: int) -> int:
    try:
        values = semaphore_values(number, count)[start : start + _AT_ONCE]
    except OSError as error:
        return error.errno or errno.EIO
    operations = question(start, values)
    with process.holding(operations) as at:
        answer = -process.call(_SEMOP, number, at, len(operations) // _OPERATION.size)
    if answer not in (errno.ERANGE, errno.EAGAIN, errno.EINVAL, errno.EIDRM):  # a removed set gets nothing back
        raise HiddenError(errno.errorcode.get(answer, str(answer)))
    return answer


def question(start: int, values: Sequence[int]) -> bytes:
    """Return operations that fail, out of range only if there is something to undo at one of the semaphores; pure.

    Args:
        start: number of the first semaphore.
        values: its value, and those of the next.
    """
    found = b"".join(
        _OPERATION.pack(place, operation, flags | _NO_WAIT)
        for place, value in enumerate(values, start)
        for operation, flags in _asked(value)
        if operation
    )
    last = start + len(values) - 1
    return found + _OPERATION.pack(last, -_MOST, _NO_WAIT) + _OPERATION.pack(last, -1, _NO_WAIT)


def _asked(value: int) -> Iterator[tuple[int, int]]:
    """Yield operations on one semaphore, after which it has the largest value; pure."""
    yield _MOST - value, 0
    yield -_MOST, _UNDO  # refused if there is something to give
    yield _MOST, _UNDO
    yield -_MOST, 0
    yield _MOST, _UNDO
    yield -1, 0
    yield 1, _UNDO  # refused if there is something to take
