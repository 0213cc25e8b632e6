"""Every open, exec and executable file mapping of a process and all its children, seen by the kernel's own hook.

A seccomp filter of the traced process hands these calls to us before they are carried out. ptrace would not do: criu
itself traces the processes that it dumps and restores, and a process has one tracer.
"""

import ctypes
import fcntl
import os
import select
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

_LIBC = ctypes.CDLL(None, use_errno=True)
_SYS_SECCOMP, _SYS_PIDFD_GETFD = 317, 438
_SET_MODE_FILTER, _NEW_LISTENER = 1, 8
_AUDIT_ARCH_X86_64 = 0xC000003E
_RECV, _SEND = 0xC0502100, 0xC0182101
_CONTINUE = 1
_ALLOW, _NOTIFY = 0x7FFF0000, 0x7FC00000
_PROT_EXEC, _MAP_ANONYMOUS = 4, 0x20
_CALLS = {2: "open", 85: "creat", 257: "openat", 437: "openat2", 428: "open_tree", 59: "execve", 322: "execveat"}
_MMAP = 9
_AT_RELATIVE = {"openat", "openat2", "open_tree", "execveat"}
_LOAD, _JUMP_EQUAL, _JUMP_SET, _RETURN = 0x20, 0x15, 0x45, 0x06
_NR, _ARCH, _ARG2, _ARG3 = 0, 4, 32, 40


@dataclass(frozen=True)
class Call:
    """One call as it was about to be carried out."""

    what: str
    path: str
    """Absolute, or with a descriptor's own path in front; ``?`` if it could not be read."""
    mount_namespace: int
    """Inode of the caller's."""


@dataclass
class Calls:
    """What was seen so far."""

    seen: list[Call] = field(default_factory=list)

    def within(self, mount_namespace: int) -> set[tuple[str, str]]:
        """Return what was called in one mount namespace."""
        return {(call.what, call.path) for call in self.seen if call.mount_namespace == mount_namespace}


def filter_self() -> int:
    """Hand the calls of this thread and all that it starts to the listener whose descriptor this returns."""

    def step(code: int, value: int, yes: int = 0, no: int = 0) -> bytes:
        return struct.pack("HBBI", code, yes, no, value)

    watched = list(_CALLS)
    body = [step(_LOAD, _ARCH), step(_JUMP_EQUAL, _AUDIT_ARCH_X86_64, 1, 0), step(_RETURN, _ALLOW), step(_LOAD, _NR)]
    body += [step(_JUMP_EQUAL, number, len(watched) - i + 5, 0) for i, number in enumerate(watched)]
    body += [
        step(_JUMP_EQUAL, _MMAP, 0, 4),
        step(_LOAD, _ARG2),
        step(_JUMP_SET, _PROT_EXEC, 0, 2),
        step(_LOAD, _ARG3),
        step(_JUMP_SET, _MAP_ANONYMOUS, 0, 1),
        step(_RETURN, _ALLOW),
        step(_RETURN, _NOTIFY),
    ]
    code = b"".join(body)
    buffer = ctypes.create_string_buffer(code, len(code))
    program = struct.pack("HxxxxxxQ", len(body), ctypes.addressof(buffer))
    listener = _LIBC.syscall(_SYS_SECCOMP, _SET_MODE_FILTER, _NEW_LISTENER, program)
    if listener < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), "seccomp")
    return listener


@contextmanager
def watching(pid: int, listener: int) -> Iterator[Calls]:
    """Answer the calls of a process that has called ``filter_self``; every one of them proceeds."""
    pidfd = os.pidfd_open(pid)
    fd = _LIBC.syscall(_SYS_PIDFD_GETFD, pidfd, listener, 0)
    if fd < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), "pidfd_getfd")
    calls = Calls()
    stop, stopper = os.pipe()
    thread = threading.Thread(target=_answer, args=(fd, stop, calls.seen.append), name="opens")
    thread.start()
    try:
        yield calls
    finally:
        os.close(stopper)
        thread.join()
        for number in (fd, stop, pidfd):
            os.close(number)


def _answer(fd: int, stop: int, note: Callable[[Call], None]) -> None:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    poll.register(stop, select.POLLHUP)
    while stop not in (ready := dict(poll.poll())):
        if not ready[fd] & select.POLLIN:
            return  # every filtered process has ended
        request = bytearray(80)
        with suppress(FileNotFoundError):  # the caller was killed meanwhile
            fcntl.ioctl(fd, _RECV, request)
            number, pid, _, call, _, _ = struct.unpack_from("QIIiIQ", request)
            note(_read(pid, call, struct.unpack_from("6Q", request, 32)))
            fcntl.ioctl(fd, _SEND, struct.pack("QqiI", number, 0, 0, _CONTINUE))


def _read(pid: int, call: int, arguments: tuple[int, ...]) -> Call:
    process = Path("/proc", str(pid))
    try:
        namespace = (process / "ns/mnt").stat().st_ino
        if call == _MMAP:
            return Call("mmap", str((process / "fd" / str(arguments[4])).readlink()), namespace)
        what = _CALLS[call]
        if what not in _AT_RELATIVE:
            return Call(what, _text(process, arguments[0]), namespace)
        path = _text(process, arguments[1])
        directory = arguments[0] & 0xFFFFFFFF
        if not path.startswith("/") and directory < 1 << 31:
            path = f"{(process / 'fd' / str(directory)).readlink()}/{path}"
        return Call(what, path, namespace)
    except OSError:
        return Call(_CALLS.get(call, "mmap"), "?", 0)


def _text(process: Path, address: int) -> str:
    with (process / "mem").open("rb", buffering=0) as memory:
        memory.seek(address)
        parts = b""
        while b"\0" not in parts and len(parts) < os.pathconf("/", "PC_PATH_MAX"):
            memory.seek(address + len(parts))
            parts += memory.read(64 - (address + len(parts)) % 64)  # never across a page
    return parts.split(b"\0")[0].decode("utf-8", "replace")
