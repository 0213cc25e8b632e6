"""The agent's side of the standby protocol: the claim file's lock, and the verdict.

The directory belongs to the container, so its content is hostile: names are opened beneath its descriptor, links are
never followed, and what is written appears by a rename.
"""

import errno
import fcntl
import os
import re
import stat
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from agent.errors import ContainerError
from contract.api import control_files, keys
from contract.api.states import AgentReason
from contract.config.storage import check_id
from linux import syscalls
from linux.proc import PROC, holds

_SAFE: Final = syscalls.BENEATH | syscalls.NO_SYMLINKS | syscalls.NO_MAGICLINKS
_NONCE: Final = re.compile(rb"([0-9a-f]{32})\n", re.ASCII)
_CLAIM_BYTES: Final = 256
LOCK_PATIENCE: Final = 0.3
"""Seconds: standby tests the lock by taking it shared for a moment."""
LOOK_SECONDS: Final = 0.002
GIVING_UP_SECONDS: Final = 10.0
"""Standby waits for the lock and for foreign processes, six seconds in all, before it becomes the worker."""
MAX_REASON: Final = 1000
"""Characters of a verdict's reason; standby reads 4096 bytes."""


def open_control_dir(kubelet_pods: Path, pod_uid: str, container: str) -> int:
    """Return the descriptor of a container's control directory, seen from the node.

    Raises:
        FileNotFoundError: kubelet has not made it yet.
        OSError: a link is in the way.
    """
    volume = f"{check_id(pod_uid)}/volumes/kubernetes.io~empty-dir/{keys.CONTROL_VOLUME}/{check_id(container)}"
    root = os.open(kubelet_pods, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return syscalls.openat2(root, volume, os.O_RDONLY | os.O_DIRECTORY, resolve=_SAFE)
    finally:
        os.close(root)


class ControlDir:
    """One container's control directory; owns the descriptor."""

    def __init__(self, directory: int) -> None:
        self.directory = directory

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self.directory)

    def has(self, name: str) -> bool:
        """Say whether a file of that name is there."""
        with suppress(OSError):
            os.lstat(name, dir_fd=self.directory)
            return True
        return False

    def time_of(self, name: str) -> int | None:
        """Return when a regular file was written last, nanoseconds; None if there is none."""
        with suppress(OSError):
            found = os.lstat(name, dir_fd=self.directory)
            return found.st_mtime_ns if stat.S_ISREG(found.st_mode) else None
        return None

    def read(self, name: str, limit: int = 4096) -> bytes | None:
        """Return the first bytes of a regular file; None if there is none."""
        with suppress(OSError):
            fd = syscalls.openat2(self.directory, name, os.O_RDONLY | os.O_NONBLOCK, resolve=_SAFE)
            try:
                return os.read(fd, limit)
            finally:
                os.close(fd)
        return None

    def write(self, name: str, text: str) -> None:
        """Make a file appear whole.

        Raises:
            ContainerError: the container has put something in its way, or the volume is full.
        """
        temporary = f".{name}.{uuid.uuid4().hex[:8]}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            with os.fdopen(os.open(temporary, flags, 0o644, dir_fd=self.directory), "w", encoding="utf-8") as file:
                os.fchmod(file.fileno(), 0o644)  # the pod's user reads it, whatever our umask
                file.write(text)
            os.rename(temporary, name, src_dir_fd=self.directory, dst_dir_fd=self.directory)
        except OSError as error:
            raise _blocked(name, error) from error

    def remove(self, name: str) -> None:
        """Remove a file, there or not.

        Raises:
            ContainerError: the container has put a folder in its place.
        """
        try:
            os.unlink(name, dir_fd=self.directory)
        except FileNotFoundError:
            return
        except OSError as error:
            raise _blocked(name, error) from error


def _blocked(name: str, error: OSError) -> ContainerError:
    return ContainerError(AgentReason.CONTROL_BLOCKED, f"{name} in the control directory: {error.strerror}")


class ContainerLock:
    """The lock of a container: held until ``release``, or until this process dies."""

    def __init__(
        self, control_dir: ControlDir, fd: int, nonce: str, *, taken_before: bool, is_awaited: Callable[[], bool]
    ) -> None:
        self.control = control_dir
        self.is_awaited = is_awaited
        """Says whether standby is still there: it waits only for as long as the holder allowed itself."""
        self.nonce = nonce
        self.taken_before = taken_before
        """Another agent wrote how long it would take, and died without a verdict."""
        self._fd = fd

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def release(self) -> None:
        """Release the lock; if no verdict was written, another agent may take it."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def allow(self, seconds: float) -> None:
        """Say how long this will take at most; standby does not wait for longer."""
        os.lseek(self._fd, 0, os.SEEK_END)
        os.write(self._fd, f"{max(1, round(seconds))}\n".encode())

    def restored(self, pid: int, stopped: Sequence[int] = ()) -> None:
        """Hand the restored tree over; standby wakes it, but for the processes that were ``stopped`` at the capture.

        Raises:
            ContainerError: standby has given up, and starts cold.
        """
        pids = " ".join(map(str, (pid, *stopped[: control_files.MAX_STOPPED])))
        self._verdict(f"{control_files.VERDICT_RESTORED} {self.nonce} {pids}")
        if self.control.has(control_files.GAVE_UP) and not self._is_obeyed():
            words = "the container starts cold: the restore took longer than it may"
            raise ContainerError(AgentReason.ALREADY_STARTED, words)

    def _is_obeyed(self) -> bool:
        """Say what becomes of a verdict that came as standby gave up: if it obeys, it takes its note away."""
        end = time.monotonic() + GIVING_UP_SECONDS
        while self.control.has(control_files.GAVE_UP):
            if not self.is_awaited() or time.monotonic() > end:
                return False
            time.sleep(LOOK_SECONDS)
        return self.is_awaited()  # else the next standby has taken away what the former one left

    def park(self, pid: int, digest: str) -> None:
        """Leave the tree restored from a manifest to standby, stopped, until an agent takes the lock to wake it."""
        self.control.write(control_files.PARKED, f"{self.nonce} {pid} {digest}\n")

    def is_parked(self) -> bool:
        """Say whether an agent has parked the worker of this very start of the container."""
        return self._parked()[:1] == [self.nonce]

    def parked_digest(self) -> str:
        """Return the digest of the manifest that the parked worker is of; empty if there is none."""
        return " ".join(self._parked()[2:]) if self.is_parked() else ""

    def _parked(self) -> list[str]:
        return (self.control.read(control_files.PARKED) or b"").decode("ascii", "replace").split()

    def captured(self) -> None:
        """Report that the artifact is published and verified."""
        self.control.write(control_files.SNAPSHOT_COMPLETE, control_files.DONE)
        self._verdict(f"{control_files.VERDICT_CAPTURED} {self.nonce}")

    def failed(self, reason: str, *, clean: bool) -> None:
        """Report a failure; ``clean``: files and processes are as they were before."""
        words = " ".join(reason.split())[:MAX_REASON]
        self._verdict(f"{control_files.VERDICT_FAILED} {self.nonce} {'clean' if clean else 'dirty'} {words}")

    def _verdict(self, line: str) -> None:
        self.control.write(control_files.VERDICT, line + "\n")


def acquire(control_dir: ControlDir, init_pid: int, proc: Path = PROC, *, has_started: bool = False) -> ContainerLock:
    """Acquire the lock of the standby ``init_pid``, which waits, or whose worker has started.

    Raises:
        ContainerError: another agent has it, or standby itself, which then starts cold.
    """
    try:
        fd = syscalls.openat2(control_dir.directory, control_files.CLAIM, os.O_RDWR, resolve=_SAFE)
    except OSError as error:
        raise ContainerError(AgentReason.CLAIM_GONE, f"claim file: {error.strerror}") from error
    try:
        _lock(fd)
        _still_its_own(control_dir, fd, init_pid, proc, has_started=has_started)
        nonce, taken_before = _read_claim(fd)
    except BaseException:
        os.close(fd)
        raise
    claim = os.fstat(fd)
    return ContainerLock(
        control_dir, fd, nonce, taken_before=taken_before, is_awaited=lambda: holds(init_pid, claim, proc)
    )


def _read_claim(fd: int) -> tuple[str, bool]:
    content = os.pread(fd, _CLAIM_BYTES, 0)
    nonce = _NONCE.match(content)
    if nonce is None:
        raise ContainerError(AgentReason.CLAIM_GONE, "the claim file holds no nonce (yet)")
    return nonce[1].decode(), len(content) > nonce.end()


def _lock(fd: int) -> None:
    end = time.monotonic() + LOCK_PATIENCE
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno != errno.EWOULDBLOCK or time.monotonic() > end:
                raise ContainerError(
                    AgentReason.CLAIM_TAKEN, "the container is claimed, or starts cold already"
                ) from error
            time.sleep(LOOK_SECONDS)
        else:
            return


def _still_its_own(control_dir: ControlDir, fd: int, init_pid: int, proc: Path, *, has_started: bool) -> None:
    """Check what standby is at: the lock alone proves nothing, since a cold start releases it."""
    if control_dir.has(control_files.RESTORE_COMPLETE) != has_started or not holds(init_pid, os.fstat(fd), proc):
        words = "no longer waits: the container has started" if not has_started else "has no running worker (yet)"
        raise ContainerError(AgentReason.CLAIM_GONE, f"standby {words}")
