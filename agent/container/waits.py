"""Which threads wait in poll(2) without a limit; known before anything halts them, and not any more afterwards.

The kernel has a thread that was halted in poll(2) go on by another call, restart_syscall(2), of which no register says
what it goes on with: the name of the kernel's function does in which the thread waits, until it is stopped.
"""

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from linux.proc import PROC, inner_id
from linux.ptrace.interrupted import INSTRUCTION, POLL, RESTART
from linux.ptrace.polls import Poll

_NEGATIVE: Final = 1 << 31
_WORDS: Final = 9
"""Number of the call, six arguments, stack and instruction."""
_LOADS_NUMBER: Final = b"\xb8"
_NUMBER_BYTES: Final = 4
_POLLS: Final = b"poll"
"""In the name of that function: of all calls that go on so, poll(2) alone has it (``poll_schedule_timeout``)."""


class Waiting(NamedTuple):
    """A thread that waits so."""

    tid: int
    poll: Poll


def endless_polls(pids: Iterable[int], proc: Path = PROC) -> Mapping[int, Waiting]:
    """Return what threads wait so, by their numbers inside the container."""
    found = {}
    for pid in pids:
        for task in _threads(proc / str(pid)):
            with suppress(OSError):  # it has ended
                if (poll := _poll(pid, task, proc)) is not None:
                    found[inner_id(f"{task}/status")] = Waiting(int(task.name), poll)
    return found


def _threads(process: Path) -> Iterator[Path]:
    with suppress(OSError):
        yield from list((process / "task").iterdir())


def _poll(pid: int, task: Path, proc: Path) -> Poll | None:
    words = (task / "syscall").read_text().split()
    if len(words) != _WORDS or (call := int(words[0])) not in (POLL, RESTART):
        return None
    first, second, third, after = (int(words[at], 16) for at in (1, 2, 3, -1))
    if not third & _NEGATIVE or (call == RESTART and not _goes_on_with_poll(pid, task, after, proc)):
        return None
    return Poll(first, second, third, after)


def _goes_on_with_poll(pid: int, task: Path, after: int, proc: Path) -> bool:
    return _number_before(pid, after, proc) == POLL or _POLLS in (task / "wchan").read_bytes()


def _number_before(pid: int, after: int, proc: Path) -> int | None:
    """Return which call the instructions make that come before another one, if they say it.

    Those of glibc before 2.41 do. Since then, as with musl, one instruction makes many calls.
    """
    memory = os.open(proc / str(pid) / "mem", os.O_RDONLY | os.O_CLOEXEC)
    try:
        size = len(_LOADS_NUMBER) + _NUMBER_BYTES
        code = os.pread(memory, size, after - INSTRUCTION - size)
    except OverflowError:  # a tracer may set any address
        return None
    finally:
        os.close(memory)
    return int.from_bytes(code[-_NUMBER_BYTES:], "little") if code.startswith(_LOADS_NUMBER) else None
