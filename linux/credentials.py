"""Does something in a thread that has the file rights of another user, as the kernel checks them."""

import ctypes
import platform
import struct
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from linux.syscalls import LIBC, checked

_SETGROUPS: Final = {"x86_64": 116, "aarch64": 159}
"""The C library's own function changes the groups of all threads."""
_CAPGET: Final = {"x86_64": 125, "aarch64": 90}
_CAPSET: Final = {"x86_64": 126, "aarch64": 91}
_CAPABILITY_VERSION: Final = 0x20080522
_OVERRIDE: Final = 0b110
"""CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH: files can be read whatever their modes say."""

T = TypeVar("T")


def as_user(uid: int, gid: int, groups: Collection[int], capabilities: int, call: Callable[[], T]) -> T:
    """Call something with the file rights of a user; what it opens stays open.

    Args:
        uid: as the node numbers it; and so on.
        gid: its first group.
        groups: its others.
        capabilities: those it has: two let it read any file.
        call: run in a thread of its own, which keeps these rights to its end.

    Raises:
        OSError: the caller may not change its rights.
    """

    def enter() -> T:
        machine, numbers = platform.machine(), (ctypes.c_uint32 * max(1, len(groups)))(*groups)
        checked(LIBC.syscall(_SETGROUPS[machine], len(groups), numbers), "setgroups")
        LIBC.setfsgid(gid)
        LIBC.setfsuid(uid)  # of another user than root: the kernel takes both capabilities away
        _drop(_OVERRIDE & ~capabilities, machine)
        return call()

    with ThreadPoolExecutor(1) as thread:  # which ends with it: it could not come back
        return thread.submit(enter).result()


def _drop(capabilities: int, machine: str) -> None:
    """Take capabilities from this thread's effective set."""
    header = ctypes.create_string_buffer(struct.pack("=Ii", _CAPABILITY_VERSION, 0))
    data = ctypes.create_string_buffer(24)
    checked(LIBC.syscall(_CAPGET[machine], header, data), "capget")
    words = list(struct.unpack("=6I", data.raw[:24]))
    words[0] &= ~capabilities
    checked(LIBC.syscall(_CAPSET[machine], header, struct.pack("=6I", *words)), "capset")
