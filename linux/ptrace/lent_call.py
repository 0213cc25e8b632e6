"""A system call that another process makes for us: its first thread is halted, lent the call, and put back as it was.

Some of what a process has is shown to itself alone. criu infects processes to ask them; one call takes no code of ours
in the process: the page that the kernel maps into it (vdso) has the instruction. A process that has unmapped that page
is asked by an instruction of its own: what it has forbidden itself would be lost silently.
"""

import ctypes
import errno
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import chain
from pathlib import Path
from typing import Final, TypeVar

from linux.proc import is_alive, read_plainly
from linux.ptrace.halt import INTERRUPT, await_halt, halted, request
from linux.ptrace.interrupted import INSTRUCTION, is_to_be_made_again

Answer = TypeVar("Answer")
_CONT, GETREGS, SETREGS, _SYSCALL, _GETSIGMASK, _SETSIGMASK = 7, 12, 13, 24, 0x420A, 0x420B
_GETREGSET, _SETREGSET, _NT_X86_XSTATE = 0x4204, 0x4205, 0x202
_STATE: Final = 1 << 16
"""Bytes; with AMX it takes 11 KiB."""
_MARK_SYSCALLS: Final = 0x1
_SUSPEND_SECCOMP: Final = 1 << 21
"""A filter of the process's own, or the strict mode, may end it for a call that it never makes. criu does the same."""
_AT_SYSCALL: Final = 0x857F
"""The wait status of a stop for a system call, as PTRACE_O_TRACESYSGOOD marks it."""
_SIGNALS: Final = 8
"""Bytes of the kernel's set of signals."""
_PENDING: Final = re.compile(rb"^(?:SigPnd|ShdPnd):\t([0-9a-f]+)$", re.MULTILINE)
_INSTRUCTION: Final = b"\x0f\x05"
_SECCOMP: Final = re.compile(rb"^Seccomp:\t[^0]", re.MULTILINE)
VDSO: Final = r"^([0-9a-f]+)-([0-9a-f]+) r.xp 00000000 00:00 0 +\[vdso\]$"
"""The kernel's page in ``maps``, if it can be run: a file may have that name too, and a process may take that right."""
_VDSO: Final = re.compile(VDSO.encode(), re.MULTILINE)
_CODE: Final = re.compile(rb"^([0-9a-f]{1,12})-([0-9a-f]{1,12}) r-xp ", re.MULTILINE)
"""Of a process that has not that page: what it may run and not write; not the kernel's page at a fixed address."""
_MOST_CODE: Final = 8 << 20
"""Bytes of it that are looked through: a library of C has the instruction in the first 200 KiB."""
_STOPS: Final = 100
"""For other reasons than a call; far more than there are of a process that others stop and wake."""
_RED_ZONE: Final = 128
"""Bytes below the stack pointer that code may use without moving it; a signal's frame goes below them too."""
LONG_MODE: Final = 0x33
"""The kernel's code segment for 64-bit programs (__USER_CS)."""
_NO_CALL: Final = -1
_PRLIMIT64, _NO_LIMIT = 302, 1 << 16


class Registers(ctypes.Structure):
    """``struct user_regs_struct`` of x86-64; the kernel's numbers are signed here."""

    _fields_ = tuple(
        (name, ctypes.c_long)
        for name in (
            *("r15", "r14", "r13", "r12", "rbp", "rbx", "r11", "r10", "r9", "r8", "rax", "rcx", "rdx", "rsi", "rdi"),
            *("orig_rax", "rip", "cs", "eflags", "rsp", "ss", "fs_base", "gs_base", "ds", "es", "fs", "gs"),
        )
    )


class _Buffer(ctypes.Structure):
    """``struct iovec``."""

    _fields_ = (("at", ctypes.c_size_t), ("length", ctypes.c_size_t))


class OtherCallsError(Exception):
    """A process of 32 bits, whose calls have other numbers."""


class Borrowed:
    """A halted process of x86-64."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._own = Registers()
        request(GETREGS, pid, 0, ctypes.addressof(self._own))
        if self._own.cs != LONG_MODE:
            raise OtherCallsError
        self._at = _instruction(pid)

    def call(self, number: int, first: int, second: int = 0, third: int = 0, fourth: int = 0) -> int:
        """Have it make a call, its fifth argument 0; return what the kernel answers, an error as a negative number."""
        regs = Registers.from_buffer_copy(self._own)
        regs.rip, regs.rax, regs.orig_rax = self._at, number, _NO_CALL
        regs.rdi, regs.rsi, regs.rdx, regs.r10, regs.r8 = first, second, third, fourth, 0
        request(SETREGS, self._pid, 0, ctypes.addressof(regs))
        for _ in ("enters", "leaves"):
            self._await_call()
        request(GETREGS, self._pid, 0, ctypes.addressof(regs))
        return int(regs.rax)

    def _await_call(self) -> None:
        """Let it go on until it enters or leaves a call; a process that was stopped says so once more.

        Raises:
            OSError: it does not come to one: another thread of it has taken the instruction away.
        """
        for _ in range(_STOPS):
            request(_SYSCALL, self._pid)
            if await_halt(self._pid) == _AT_SYSCALL:
                return
        raise OSError(errno.EFAULT, os.strerror(errno.EFAULT), f"thread {self._pid}")

    def asked(self, number: int, first: int) -> tuple[int, int]:
        """Have it make a call that writes eight bytes to its second argument; return the answer, and those."""
        with Path(f"/proc/{self._pid}/mem").open("r+b", buffering=0) as memory:
            at, before = self._room(memory.fileno(), 8)
            answer = self.call(number, first, at)
            found = os.pread(memory.fileno(), 8, at)
            os.pwrite(memory.fileno(), before, at)
        return answer, int.from_bytes(found, "little")

    @contextmanager
    def holding(self, content: bytes) -> Iterator[int]:
        """Have bytes in its memory for calls that read them; yields their address."""
        with Path(f"/proc/{self._pid}/mem").open("r+b", buffering=0) as memory:
            at, before = self._room(memory.fileno(), len(content))
            os.pwrite(memory.fileno(), content, at)
            try:
                yield at
            finally:
                os.pwrite(memory.fileno(), before, at)

    def bring(self, at: int) -> None:
        """Have 16 bytes of its memory be there, if a page server still has them.

        To a reader from outside the kernel brings no page of such memory, and says EIO.
        """
        self.call(_PRLIMIT64, 0, _NO_LIMIT, at)  # it reads them, and knows no such limit

    def _room(self, memory: int, size: int) -> tuple[int, bytes]:
        """Return where bytes of its stack are, and what they hold; they are given back as they were."""
        below, own = (self._own.rsp - _RED_ZONE - size) & ~7, self._own.rsp & ~7
        with suppress(OSError):  # the stack has not grown that far yet
            return below, self._held(memory, size, below)
        return own, self._held(memory, size, own)

    def _held(self, memory: int, size: int, at: int) -> bytes:
        with suppress(OSError):
            return _exactly(memory, size, at)
        for edge in (at, at + size):
            self.bring(edge)
        return _exactly(memory, size, at)

    def state(self) -> bytes:
        """Return the registers that are not in ``struct user_regs_struct``: vectors, rights of protection keys."""
        room = ctypes.create_string_buffer(_STATE)
        buffer = _Buffer(ctypes.addressof(room), _STATE)
        request(_GETREGSET, self._pid, _NT_X86_XSTATE, ctypes.addressof(buffer))
        return room.raw[: buffer.length]

    def put_state(self, state: bytes) -> None:
        """Set them to what they were."""
        room = ctypes.create_string_buffer(state, len(state))
        buffer = _Buffer(ctypes.addressof(room), len(state))
        request(_SETREGSET, self._pid, _NT_X86_XSTATE, ctypes.addressof(buffer))

    def put_back(self, blocked: int) -> None:
        """Give it its registers, halted as it was found: the kernel then goes on with a call that it was in.

        Those that would fail instead, as of System V IPC, are made again.

        Args:
            blocked: the signals that it blocks, as the kernel writes them.
        """
        request(INTERRUPT, self._pid)
        request(_CONT, self._pid)
        while await_halt(self._pid) == _AT_SYSCALL:
            request(_CONT, self._pid)
        own, awaits_signal = self._own, bool(_pending(self._pid) & ~blocked)
        arguments = own.rdi, own.rsi, own.rdx, own.r10, own.r8
        if is_to_be_made_again(own.orig_rax, own.rax, arguments, awaits_signal=awaits_signal):
            own.rip, own.rax = own.rip - INSTRUCTION, own.orig_rax
        request(SETREGS, self._pid, 0, ctypes.addressof(own))


def _pending(pid: int) -> int:
    own, shared = (int(word, 16) for word in _PENDING.findall(read_plainly(f"/proc/{pid}/status")))
    return own | shared


def _exactly(memory: int, size: int, at: int) -> bytes:
    found = os.pread(memory, size, at)
    if len(found) < size:
        raise OSError(errno.EIO, os.strerror(errno.EIO))
    return found


@contextmanager
def borrowed(pid: int) -> Iterator[Borrowed]:
    """Halt the first thread of a process, to have it make calls; nothing of the process is changed at the end.

    Raises:
        OSError: it cannot be traced, does not halt, or has ended.
        OtherCallsError: it is a process of 32 bits.
    """
    suspends = _SUSPEND_SECCOMP if _SECCOMP.search(read_plainly(f"/proc/{pid}/status")) else 0
    with halted(pid, _MARK_SYSCALLS | suspends):
        process, mask, none = Borrowed(pid), ctypes.c_uint64(), ctypes.c_uint64(~0)
        request(_GETSIGMASK, pid, _SIGNALS, ctypes.addressof(mask))
        request(_SETSIGMASK, pid, _SIGNALS, ctypes.addressof(none))  # no handler runs with the registers of ours
        try:
            yield process
        finally:
            process.put_back(mask.value)
            request(_SETSIGMASK, pid, _SIGNALS, ctypes.addressof(mask))


def answer_of(ask: Callable[[int], Answer], pid: int, otherwise: Answer) -> Answer:
    """Return what a process answers; *otherwise* of one that has ended meanwhile, is a zombie, or of 32 bits.

    Raises:
        OSError: it is alive, and cannot be asked.
    """
    try:
        return ask(pid)
    except OtherCallsError:
        return otherwise
    except OSError:
        if is_alive(pid):
            raise
        return otherwise


def _instruction(pid: int) -> int:
    """Return the address of an instruction that makes a system call: in the kernel's own page, or else in other code.

    Raises:
        OSError: there is none.
    """
    with open(f"/proc/{pid}/maps", "rb", buffering=0) as maps:  # noqa: PTH123 - of each process, again and again
        text = maps.readall()
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:  # noqa: PTH123 - see above
        for page in chain(_VDSO.finditer(text), _CODE.finditer(text)):
            start, end = int(page[1], 16), int(page[2], 16)
            with suppress(OSError):  # memory of a device
                place = os.pread(memory.fileno(), min(end - start, _MOST_CODE), start).find(_INSTRUCTION)
                if place >= 0:
                    return start + place
    raise OSError(errno.ENOEXEC, "it has no code that makes a system call", f"process {pid}")
