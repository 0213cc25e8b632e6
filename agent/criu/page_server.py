"""Runs ``native/page_server``: the process that gives a restored worker its memory while it runs already.

docs/page-server.md has its protocol. It is started for one restore, before criu, and ends when all pages are in; from
criu's end on it survives the agent, as the worker does.
"""

import os
import select
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

from agent.errors import CriuError
from contract.api.states import AgentReason

SOCKET: Final = "lazy-pages.socket"
"""Where criu looks for it, in its work directory."""
MOST_THREADS: Final = 16
"""From 14 threads on one host's memory was the limit (21 GB/s)."""
READY_SECONDS: Final = 30.0
"""To read what the images say of a worker's memory: below a second for a million extents."""
_NONE: Final = -1
_READY, _FAILED, _FILLED = "ready", "failed", "filled"
_GUARDED, _UNGUARDED = "guarded", "unguarded"
_RECORDED, _UNUSABLE = "recorded", "unusable"
RECORDED_SECONDS: Final = 10.0
"""To write what was recorded: a MiB, into memory."""


@dataclass(frozen=True)
class Fill:
    """What one did, by its own word."""

    seconds: float
    """From the end of criu to the last page."""
    bytes: int = 0
    faults: int = 0

    @classmethod
    def parse(cls, line: str) -> Self:
        """Read it from its last line: ``N bytes, N faults, ..., N us``; what is not there counts as 0."""
        words = line.replace(",", "").split()
        found = {unit: int(number) for number, unit in zip(words[::2], words[1::2], strict=False) if number.isdigit()}
        return cls(found.get("us", 0) / 1e6, found.get("bytes", 0), found.get("faults", 0))


@dataclass(frozen=True, kw_only=True)
class Lazy:
    """Asks a restore to leave the worker's memory to a page server."""

    guard: int | None
    """A connection to standby, which then holds the worker's memory as well; None if there is none."""
    threads: int = field(default_factory=lambda: min(MOST_THREADS, os.cpu_count() or 1))
    hot: bytes = b""
    """Ranges of pages that are filled first, as ``recorded`` returns them."""
    records: bool = False
    """Whether to serve nothing but what is waited for, and to note it, until that is asked for."""


@dataclass
class PageServer:
    """One that was started; must be stopped, or waited for."""

    process: subprocess.Popen[bytes]
    report: int
    record: int | None = None
    """Where it writes what it recorded; None if it was not to."""
    _text: str = ""
    _ended: bool = False

    @classmethod
    def start(cls, program: Path, images: int, work: int, lazy: Lazy) -> Self:
        """Start one for a directory of images; criu will find it in its directory ``work``.

        Raises:
            CriuError: it cannot serve these images, and nothing has been restored yet.
        """
        reading, writing = os.pipe()
        record = os.memfd_create("recorded") if lazy.records else None
        try:
            with _listener(work) as listener, _hot_file(lazy.hot) as hot:
                files = [_NONE if one is None else one for one in (lazy.guard, hot, record)]
                keep = [listener, images, writing, *(one for one in files if one != _NONE)]
                numbers = [listener, images, files[0], writing, lazy.threads, *files[1:]]
                words = [str(number) for number in numbers]
                process = subprocess.Popen(
                    [str(program), *words],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    pass_fds=keep,
                    env={},
                    cwd="/",
                )
        except OSError as error:
            os.close(reading)
            if record is not None:
                os.close(record)
            raise CriuError(AgentReason.RESTORE_FAILED, f"the page server does not start: {error}") from error
        finally:
            os.close(writing)
        made = cls(process, reading, record)
        try:
            made._await(_READY, seconds=READY_SECONDS)
        except BaseException:
            made.stop()
            raise
        return made

    def is_guarded(self, seconds: float) -> bool:
        """Say whether standby holds the worker's memory too: only then may it run before all of it is there.

        Raises:
            CriuError: the server has ended.
        """
        guarded = self._await(_GUARDED, _UNGUARDED, seconds=seconds).startswith(_GUARDED)
        self.refuse_ended()
        return guarded

    def refuse_ended(self) -> None:
        """Raise CriuError if it has ended with pages missing."""
        if self.has_ended():
            self._await(_FILLED, seconds=0)

    def has_ended(self) -> bool:
        """Say whether it has ended, however."""
        return self.process.poll() is not None

    @property
    def unusable(self) -> str:
        """Why it does not use the hot set that it was given; empty if it does, or was given none."""
        lines = (line for line in self._text.splitlines() if line.startswith(_UNUSABLE))
        return next(lines, "").removeprefix(_UNUSABLE).strip()

    def recorded(self) -> bytes:
        """Return the ranges that a process waited for, in that order; everything else is filled from now on.

        Raises:
            CriuError: the server has ended.
        """
        if self.record is None:
            return b""
        self.refuse_ended()
        self.process.send_signal(signal.SIGUSR1)
        size = int(self._await(_RECORDED, seconds=RECORDED_SECONDS).split()[1])
        return os.pread(self.record, size, 0)

    def await_filled(self, seconds: float) -> str:
        """Wait until every page is in; return what it took.

        Raises:
            CriuError: the server has ended before, or it takes longer.
        """
        line = self._await(_FILLED, seconds=seconds).removeprefix(_FILLED).strip()
        self._end()
        return line

    def stop(self) -> None:
        """End it, whatever it does. A worker that still needs it must have ended."""
        if not self._ended:
            self.process.send_signal(signal.SIGKILL)
            self._end()

    def _end(self) -> None:
        self._ended = True
        self.process.wait()
        os.close(self.report)
        if self.record is not None:
            os.close(self.record)

    def _await(self, *words: str, seconds: float) -> str:
        end = time.monotonic() + seconds
        poll = select.poll()
        poll.register(self.report, select.POLLIN)
        while True:
            for line in self._text.splitlines():
                if line.startswith(_FAILED):
                    raise CriuError(AgentReason.RESTORE_FAILED, f"page server: {line.removeprefix(_FAILED).strip()}")
                if line.split(" ", 1)[0] in words:
                    return line
            if not poll.poll(max(0.0, end - time.monotonic()) * 1000):
                raise CriuError(AgentReason.RESTORE_FAILED, f"page server: not {words[0]} within {seconds:.0f} s")
            if not (part := os.read(self.report, 65536)):
                raise CriuError(AgentReason.RESTORE_FAILED, "page server: it was ended before it was done")
            self._text += part.decode("utf-8", "replace")


@contextmanager
def _hot_file(ranges: bytes) -> Iterator[int | None]:
    """Hand ranges over by a file without a name; None without any."""
    if not ranges:
        yield None
        return
    with os.fdopen(os.memfd_create("hot"), "wb", buffering=0) as file:
        file.write(ranges)
        yield file.fileno()


@contextmanager
def _listener(work: int) -> Iterator[int]:
    """Listen in the directory ``work``, by its descriptor: a socket's path is at most 108 bytes."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as made:
        made.bind(f"/proc/self/fd/{work}/{SOCKET}")
        made.listen(1)
        yield made.fileno()
