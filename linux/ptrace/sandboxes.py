"""What a process has forbidden itself that nothing in /proc shows: it is lent a call that shows it and changes nothing.

From within a Landlock sandbox no process outside of it may be looked into (landlock(7), "Ptrace restrictions"),
whatever else is allowed: kcmp(2) looks.
"""

import errno
import platform
from typing import Final, NamedTuple

from linux.ptrace.lent_call import borrowed
from linux.syscalls import LIBC

_CREATE_RULESET: Final = 444
_VERSION: Final = 1
"""LANDLOCK_CREATE_RULESET_VERSION."""
_PRCTL: Final = 157
_GET_MDWE: Final = 66
_KCMP: Final = 312
_MEMORY: Final = 1
"""KCMP_VM."""


def can_be_asked() -> bool:
    """Say whether a process can be lent a call on this machine."""
    return platform.machine() == "x86_64"


def has_landlock() -> bool:
    """Say whether the kernel has it."""
    return bool(LIBC.syscall(_CREATE_RULESET, None, 0, _VERSION) > 0)


class Forbidden(NamedTuple):
    """What a process has forbidden itself."""

    written_programs: bool = False
    """Memory that can be written and run (PR_SET_MDWE, Linux 6.3)."""
    looks: bool = False
    """To look into another process that has its user and no more rights."""


def forbidden(pid: int, inner_pid: int, other: int | None) -> Forbidden:
    """Ask a process, halted once, what it has forbidden itself.

    Args:
        pid: as numbered on the node.
        inner_pid: as it numbers itself.
        other: as it numbers the other one; None if its answer would say nothing.

    Raises:
        OSError: it cannot be asked.
        OtherCallsError: it is of 32 bits.
    """
    with borrowed(pid) as process:
        forbids = process.call(_PRCTL, _GET_MDWE) > 0
        is_kept = other is not None and process.call(_KCMP, inner_pid, other, _MEMORY) == -errno.EPERM
        return Forbidden(written_programs=forbids, looks=is_kept)
