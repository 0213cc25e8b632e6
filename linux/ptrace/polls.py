"""Has threads go on with poll(2) that criu has been in.

A thread that was halted goes on with that call by a note that the kernel keeps. criu leaves each thread by returning
from a signal, which takes the note away, and has the call fail with EINTR, although no signal has come.
"""

import ctypes
import errno
import platform
from typing import Final, NamedTuple

from linux.ptrace.halt import halted, request
from linux.ptrace.interrupted import POLL, RESTART
from linux.ptrace.lent_call import GETREGS, LONG_MODE, SETREGS, Registers

_CUT_SHORT: Final = (-errno.EINTR, -516)
"""What the call returns by criu, and before the kernel goes on with it by its note (ERESTART_RESTARTBLOCK)."""
_FROM_THE_BEGINNING: Final = -514
"""ERESTARTNOHAND: what a call returns that is made again, unless a handler runs."""
_WORD: Final = (1 << 64) - 1


class Poll(NamedTuple):
    """How a thread waits in poll(2)."""

    first: int
    second: int
    third: int
    after: int
    """The instruction that follows."""


def go_on(tid: int, poll: Poll) -> bool:
    """Have a thread that waited so make the call again; one that does not any more is left as it is.

    Raises:
        OSError: it has ended, or cannot be traced.
    """
    if platform.machine() != "x86_64":
        return False
    with halted(tid):
        found = Registers()
        request(GETREGS, tid, 0, ctypes.addressof(found))
        waits = tuple(each & _WORD for each in (found.rdi, found.rsi, found.rdx, found.rip))
        is_cut_short = found.orig_rax in (POLL, RESTART) and found.rax in _CUT_SHORT
        if found.cs != LONG_MODE or not is_cut_short or waits != poll:
            return False
        found.orig_rax, found.rax = POLL, _FROM_THE_BEGINNING
        request(SETREGS, tid, 0, ctypes.addressof(found))
    return True
