"""System calls that the kernel does not go on with by itself once a thread has been halted for a moment.

They fail with EINTR then, some as after SIGSTOP and SIGCONT, poll(2) only after a restore: nothing was done, so making
the call again is what the thread would have seen without us. A thread that blocks all signals does not expect EINTR:
``script`` ends its child. Numbers are those of x86-64.
"""

import errno
from collections.abc import Sequence
from typing import Final

MSGSND, MSGRCV, SEMOP, SEMTIMEDOP = 69, 70, 65, 220
POLL, EPOLL_WAIT, EPOLL_PWAIT, EPOLL_PWAIT2, SIGTIMEDWAIT, IO_GETEVENTS = 7, 232, 281, 441, 128, 208
RESTART: Final = 219
"""Goes on with poll(2), and some others that have a limit, after a thread was halted in them."""
INSTRUCTION: Final = 2
"""Bytes of the one that makes a call."""
_WORD: Final = (1 << 64) - 1
_NEGATIVE: Final = 1 << 31
_WITHOUT_LIMIT: Final = (MSGSND, MSGRCV, SEMOP)
_MILLISECONDS: Final = {POLL: 2, EPOLL_WAIT: 3, EPOLL_PWAIT: 3}
"""Which argument is a limit that no negative number is."""
_TIMES: Final = {SEMTIMEDOP: 3, EPOLL_PWAIT2: 3, SIGTIMEDWAIT: 2, IO_GETEVENTS: 4}
"""Which argument leads to a limit if it leads anywhere."""


def is_to_be_made_again(call: int, answer: int, arguments: Sequence[int], *, awaits_signal: bool) -> bool:
    """Say whether a halted thread's call is one that was interrupted by the halt alone; pure.

    One with a time limit is left as it is: how much of it is left is not known.

    Args:
        call: number of the call that it is in, as the kernel keeps it (``orig_rax``).
        answer: what it is to return.
        arguments: the first five.
        awaits_signal: whether a signal waits for it, which may have interrupted the call itself.
    """
    if awaits_signal or answer & _WORD != -errno.EINTR & _WORD:
        return False
    if (at := _MILLISECONDS.get(call)) is not None:
        return bool(arguments[at] & _NEGATIVE)
    return call in _WITHOUT_LIMIT or (call in _TIMES and not arguments[_TIMES[call]])
