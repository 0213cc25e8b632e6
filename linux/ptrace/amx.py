"""Permission to use AMX, the tiles of Intel's processors: a process asks the kernel for it, and criu does not carry it.

A process without it ends by SIGILL at the first instruction. arch_prctl(2) shows it to the process itself alone
(Documentation/arch/x86/xstate.rst).
"""

from typing import Final

from linux.ptrace.lent_call import borrowed

FLAG: Final = "amx_tile"
"""In /proc/cpuinfo, of a processor that has it."""
_ARCH_PRCTL: Final = 158
_GET_PERMISSION, _REQUEST_PERMISSION = 0x1022, 0x1023
_TILE_DATA: Final = 18
"""The number of the component of a thread's state that takes permission."""


def may_use(pid: int) -> bool:
    """Say whether a process has asked for AMX, and was given it.

    Raises:
        OSError: it cannot be asked.
        OtherCallsError: it is of 32 bits, and cannot use AMX.
    """
    with borrowed(pid) as process:
        answer, permitted = process.asked(_ARCH_PRCTL, _GET_PERMISSION)
    return answer == 0 and bool(permitted >> _TILE_DATA & 1)


def permit(pid: int) -> None:
    """Have a process ask for AMX.

    Raises:
        OSError: the kernel refuses, or the process cannot be had to ask.
    """
    with borrowed(pid) as process:
        answer = process.call(_ARCH_PRCTL, _REQUEST_PERMISSION, _TILE_DATA)
    if answer != 0:
        raise OSError(-answer, f"process {pid} is not permitted to use AMX")
