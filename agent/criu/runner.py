"""Runs ``agent.criu.nsenter`` and reads what it reports."""

import io
import marshal
import os
import select
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from agent.criu import nsenter
from agent.criu.helpers import Helpers
from agent.criu.shared_fill import Job
from agent.errors import ContainerError
from contract.api.reports import ReportPhase, Step
from contract.api.states import AgentReason

LOG_BYTES: Final = 1 << 20
"""How much of the end of a log is read for its errors."""


@dataclass(frozen=True)
class CriuCommand:
    """One run of criu."""

    tree: Path
    """The criu folder."""
    argv: list[str]
    keep: list[int]
    """Descriptors that it needs."""
    has_profile: bool = False
    """Have it take AppArmor for being on."""
    stays_out_of_ipc: bool = False
    """Leave it in the agent's IPC namespace."""
    last_pid: int = 0
    """What the container's pid counter is set to first; 0: it stays."""


@dataclass(frozen=True)
class RunResult:
    """How a run ended."""

    code: int
    """criu's exit code; 0 if only files were changed."""
    error: str = ""
    """Why nothing was started, empty if criu ran."""
    steps: Sequence[Step] = ()
    """By the monotonic clock."""


class NamespaceRun:
    """A work directory for one run of criu, removed with it."""

    def __init__(self, parent: Path) -> None:
        try:
            parent.mkdir(parents=True, exist_ok=True)
            self._directory = tempfile.TemporaryDirectory(dir=parent, prefix="run-", ignore_cleanup_errors=True)
        except OSError as error:
            raise ContainerError(
                AgentReason.WORK_UNWRITABLE, f"cannot make a folder in {parent} of the agent: {error.strerror}"
            ) from error
        self.work_fd = os.open(self._directory.name, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self.work_fd)
        self._directory.cleanup()

    def read(self, name: str) -> str:
        """Return the end of a file in the work directory, empty if there is none."""
        try:
            with Path(self._directory.name, name).open("rb") as file:
                file.seek(max(0, os.fstat(file.fileno()).st_size - LOG_BYTES))
                return file.read().decode("utf-8", "replace")
        except FileNotFoundError:
            return ""


def run_in_namespaces(
    *,
    pid: int,
    cgroups: Sequence[str] = (),
    file_changes: Sequence[Mapping[str, Any]] = (),
    shared: tuple[Sequence[Job], int] | None = None,
    criu: CriuCommand | None = None,
    helpers: Helpers | None = None,
    timeout: float,
) -> RunResult:
    """Join cgroups, change files, fill shared memory with so many threads, enter the namespaces of ``pid``, run criu.

    At ``timeout`` everything of it is killed.

    It needs no disk: what a restore did to files can be undone also if it failed because the node's disk is full.
    Must be called from a thread that lives until it returns: the kernel ties the helper's life to that thread.
    """
    reading, writing = os.pipe()
    command = criu and {
        "tree": str(criu.tree),
        "argv": criu.argv,
        "keep": criu.keep,
        "profile": criu.has_profile,
        "stays_out_of": ("ipc",) if criu.stays_out_of_ipc else (),
        "last_pid": criu.last_pid,
    }
    keep = [writing, *_descriptors(file_changes), *(criu.keep if criu is not None else ())]
    keep += [fd for source, target, _ in (shared[0] if shared is not None else ()) for fd in (source, target)]
    request = {
        "pid": pid,
        "parent": os.getpid(),
        "descriptors": keep,
        "report": writing,
        "cgroups": list(cgroups),
        "file_changes": [dict(step) for step in file_changes],
        "shared": shared,
        "criu": command,
    }
    helpers = helpers or Helpers()
    with os.fdopen(reading, "rb") as report:
        try:
            process = helpers.start(marshal.dumps(request), keep)
        finally:
            os.close(writing)
        try:
            return _finish(process, report.fileno(), timeout)
        finally:
            helpers.another()


def _descriptors(file_changes: Sequence[Mapping[str, Any]]) -> list[int]:
    return [step[key] for step in file_changes for key in ("tar", "undo_tar", "undo_list") if key in step]


def _finish(process: subprocess.Popen[bytes], report: int, timeout: float) -> RunResult:
    late = not _ends_within(process.pid, timeout)
    if late:
        process.kill()
    code = process.wait()
    if late:
        return RunResult(-1, error=f"not done within {timeout:.0f} s")
    os.set_blocking(report, False)
    error, steps = "", list[Step]()
    for what, value in _pairs(_read_all(report)):
        if what == nsenter.ERROR:
            error = str(value)
        else:
            start, end = value
            steps.append(Step(ReportPhase(what), start, end - start))
    return RunResult(code, error, steps)


def _ends_within(pid: int, timeout: float) -> bool:
    """Wait by the kernel's word: the library's own wait with a limit looks only every 50 ms."""
    fd = os.pidfd_open(pid)
    try:
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        return bool(poll.poll(timeout * 1000))
    finally:
        os.close(fd)


def _read_all(fd: int) -> bytes:
    parts = []
    with suppress(BlockingIOError):
        while part := os.read(fd, 65536):
            parts.append(part)
    return b"".join(parts)


def _pairs(report: bytes) -> Iterator[tuple[str, Any]]:
    """Read the marshalled pairs, up to one that was cut off."""
    stream = io.BytesIO(report)
    with suppress(EOFError, ValueError):
        while True:
            yield marshal.load(stream)  # noqa: S302 - written by our own child
