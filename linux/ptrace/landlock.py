"""Whether a process is in a Landlock sandbox: nothing in /proc shows it.

From within a sandbox no process outside of it may be looked into (landlock(7), "Ptrace restrictions"), whatever else is
allowed. So the process is lent a call that looks into one outside, as kcmp(2) does, and changes nothing.
"""

import errno
import platform
from typing import Final

from linux.ptrace.lent_call import borrowed
from linux.syscalls import LIBC

_CREATE_RULESET: Final = 444
_VERSION: Final = 1
"""LANDLOCK_CREATE_RULESET_VERSION."""
_KCMP: Final = 312
_MEMORY: Final = 1
"""KCMP_VM."""


def is_there() -> bool:
    """Say whether the kernel has Landlock, and a process can be lent a call on this machine."""
    return platform.machine() == "x86_64" and LIBC.syscall(_CREATE_RULESET, None, 0, _VERSION) > 0


def is_kept_from(pid: int, inner_pid: int, other: int) -> bool:
    """Say whether a process may not look into another one that has its user and no more rights.

    Args:
        pid: as numbered on the node.
        inner_pid: as it numbers itself.
        other: as it numbers that one.

    Raises:
        OSError: it cannot be asked.
        OtherCallsError: it is of 32 bits.
    """
    with borrowed(pid) as process:
        return process.call(_KCMP, inner_pid, other, _MEMORY) == -errno.EPERM
