"""Sends ``agent.enter`` into a container and reads what it reports."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

LOG_BYTES: Final = 1 << 20
"""How much of the end of a log is read for its errors."""
_ROOM: Final = Path(__file__).parent.parent


@dataclass(frozen=True)
class CriuCall:
    """One run of criu."""

    tree: Path
    """The criu folder."""
    argv: list[str]
    keep: list[int]
    """Descriptors that it needs."""


@dataclass(frozen=True)
class Result:
    """How an errand ended."""

    code: int
    """criu's exit code; 0 where only files were grafted."""
    error: str = ""
    """Why nothing was started, empty where criu ran."""
    seconds: Mapping[str, float] = field(default_factory=dict)


class Errand:
    """A work directory for one errand, gone with it."""

    def __init__(self, parent: Path) -> None:
        parent.mkdir(parents=True, exist_ok=True)
        self._directory = tempfile.TemporaryDirectory(dir=parent, prefix="errand-")
        self.work_fd = os.open(self._directory.name, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self.work_fd)
        self._directory.cleanup()

    def write(self, name: str, text: str) -> str:
        """Write a file in the work directory; returns its path."""
        path = Path(self._directory.name, name)
        path.write_text(text, encoding="utf-8")
        return str(path)

    def read(self, name: str) -> str:
        """The end of a file in the work directory, empty where there is none."""
        try:
            with Path(self._directory.name, name).open("rb") as file:
                file.seek(max(0, os.fstat(file.fileno()).st_size - LOG_BYTES))
                return file.read().decode("utf-8", "replace")
        except FileNotFoundError:
            return ""


def run_errand(
    errand: Errand,
    *,
    pid: int,
    cgroups: Sequence[str] = (),
    grafts: Sequence[Mapping[str, Any]] = (),
    criu: CriuCall | None = None,
    timeout: float,
) -> Result:
    """Enter the namespaces of ``pid``, graft, then run criu; at ``timeout`` everything of it is killed.

    Must be called from a thread that lives until it returns: the kernel ties the errand's life to that thread.
    """
    reading, writing = os.pipe()
    order: dict[str, Any] = {
        "pid": pid,
        "parent": os.getpid(),
        "report": writing,
        "cgroups": list(cgroups),
        "grafts": list(grafts),
    }
    keep = [writing, errand.work_fd, *_descriptors(grafts)]
    if criu is not None:
        order["criu"] = {"tree": str(criu.tree), "argv": criu.argv, "keep": [errand.work_fd, *criu.keep]}
        keep += criu.keep
    command = [sys.executable, "-S", "-m", "agent.enter", errand.write("order.json", json.dumps(order))]
    with os.fdopen(reading, "rb") as report:
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=keep,
                env={"PYTHONPATH": str(_ROOM)},
                cwd="/",
            )
        finally:
            os.close(writing)
        return _finish(process, report.fileno(), timeout)


def _descriptors(grafts: Sequence[Mapping[str, Any]]) -> list[int]:
    return [step[key] for step in grafts for key in ("tar", "undo_tar", "undo_list") if key in step]


def _finish(process: subprocess.Popen[bytes], report: int, timeout: float) -> Result:
    try:
        code = process.wait(timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return Result(-1, error=f"not done within {timeout:.0f} s")
    os.set_blocking(report, False)
    lines = _read_all(report).splitlines()
    said = [json.loads(line) for line in lines if line.endswith("}")]
    error = next((entry["error"] for entry in said if "error" in entry), "")
    seconds: dict[str, float] = {}
    for entry in said:
        if "step" in entry:
            seconds[entry["step"]] = seconds.get(entry["step"], 0.0) + entry["seconds"]
    return Result(code, error, seconds)


def _read_all(fd: int) -> str:
    parts = []
    try:
        while part := os.read(fd, 65536):
            parts.append(part)
    except BlockingIOError:
        pass
    return b"".join(parts).decode("utf-8", "replace")
