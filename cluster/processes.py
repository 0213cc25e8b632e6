"""Running programs, and ending exactly the processes that we started."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cluster.errors import CommandError, StartError, StateError


def run(
    argv: Sequence[str | Path],
    *,
    stdin: bytes | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> str:
    """Run *argv* to its end and give its output; raises CommandError."""
    words = [str(word) for word in argv]
    silent = subprocess.DEVNULL if stdin is None else None
    done = subprocess.run(words, input=stdin, stdin=silent, env=env, cwd=cwd, check=False, capture_output=True)
    if done.returncode:
        raise CommandError(words, done.returncode, (done.stderr + done.stdout).decode(errors="replace"))
    return done.stdout.decode(errors="replace")


@dataclass(frozen=True)
class Process:
    """A process that stays known when its number is used again: by its start time."""

    pid: int
    start: str

    @classmethod
    def of(cls, pid: int) -> Process:
        """Return the process that has *pid* now; ProcessLookupError if none has."""
        return cls(pid, _start_ticks(pid))

    @classmethod
    def noted(cls, path: Path, word: str) -> Process | None:
        """Return the process whose number the file *path* holds, if it still runs with *word* on its command line.

        The word is a path that only our own process was given: a note left by a crash never names a stranger.
        """
        try:
            process = cls.of(int(path.read_text()))
            words = Path(f"/proc/{process.pid}/cmdline").read_bytes().split(b"\0")
        except (OSError, ValueError):
            return None
        return process if os.fsencode(word) in words else None

    def alive(self) -> bool:
        """Say whether this very process still runs."""
        try:
            return Process.of(self.pid) == self
        except ProcessLookupError:
            return False

    def children(self) -> list[int]:
        """Return the numbers of its direct children."""
        try:
            text = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text()
        except OSError:
            return []
        return [int(word) for word in text.split()]

    def kill(self) -> None:
        """End it at once."""
        self.send(signal.SIGKILL)

    def send(self, number: signal.Signals) -> None:
        """Signal it by a descriptor, so that a reused number is never hit."""
        with contextlib.suppress(ProcessLookupError):
            handle = os.pidfd_open(self.pid)
            try:
                if self.alive():
                    signal.pidfd_send_signal(handle, number)
            finally:
                os.close(handle)


def wait_until(what: str, check: Callable[[], bool], *, seconds: float, step: float = 0.05) -> None:
    """Poll *check* until it holds; StartError names *what* when *seconds* have passed."""
    end = time.monotonic() + seconds
    while not check():
        if time.monotonic() > end:
            raise StartError(f"{what}: not within {seconds:.0f} s")
        time.sleep(step)


def held(path: Path) -> bool:
    """Say whether a living process holds the lock file *path*, from the kernel, which no crash can falsify."""
    try:
        handle = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        # Shared: two that look at the same time must not take each other for the holder.
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        return False
    finally:
        os.close(handle)


@contextlib.contextmanager
def exclusive(path: Path, what: str, *, seconds: float = 300) -> Iterator[None]:
    """Hold the lock file *path*, which is removed afterwards; StateError if others work on *what* for too long."""
    path.parent.mkdir(parents=True, exist_ok=True)
    end = time.monotonic() + seconds
    while (handle := _try_lock(path)) is None:
        if time.monotonic() > end:
            raise StateError(f"another process has been starting or stopping {what} for {seconds:.0f} s")
        time.sleep(0.2)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(handle)


def _try_lock(path: Path) -> int | None:
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    with contextlib.suppress(BlockingIOError, FileNotFoundError):
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # The former holder unlinks the file: only a lock on the file that has the name now counts.
        if os.path.samestat(os.fstat(handle), path.stat()):
            return handle
    os.close(handle)
    return None


def _start_ticks(pid: int) -> str:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        raise ProcessLookupError(pid) from None
    fields = stat.rpartition(")")[2].split()
    if fields[0] in "ZX":  # ended, only not reaped yet
        raise ProcessLookupError(pid)
    return fields[19]  # field 22 of proc_pid_stat(5), counted behind the name
