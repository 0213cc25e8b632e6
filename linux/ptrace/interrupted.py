"""System calls that the kernel does not go on with by itself once a thread has been halted for a moment.

Those of System V IPC fail with EINTR then, as after SIGSTOP and SIGCONT: nothing was done, so making the call again is
what the thread would have seen without us. Numbers are those of x86-64.
"""

import errno
from typing import Final

MSGSND, MSGRCV, SEMOP, SEMTIMEDOP = 69, 70, 65, 220
INSTRUCTION: Final = 2
"""Bytes of the one that makes a call."""
_WORD: Final = (1 << 64) - 1


def is_to_be_made_again(call: int, answer: int, fourth: int, *, awaits_signal: bool) -> bool:
    """Say whether a halted thread's call is one that was interrupted by the halt alone; pure.

    One with a time limit is left as it is: how much of it is left is not known.

    Args:
        call: number of the call that it is in, as the kernel keeps it (``orig_rax``).
        answer: what it is to return.
        fourth: its fourth argument; of semtimedop(2) the time limit.
        awaits_signal: whether a signal waits for it, which may have interrupted the call itself.
    """
    if awaits_signal or answer & _WORD != -errno.EINTR & _WORD:
        return False
    return call in (MSGSND, MSGRCV, SEMOP) or (call == SEMTIMEDOP and not fourth)
