"""Wakes a restored tree before anything says that it is restored, and asks it: its own probe, its owner's canary."""

import os
import signal
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent.container.questions import commands
from agent.container.questions.canary import NoAnswerError, ask, wrong
from agent.container.questions.probe import problem as problem_of
from agent.executor.lock import ControlDir
from contract.api import control_files
from contract.pods.canary import CanaryCall
from contract.pods.probe import Probe
from linux.proc import Status, is_alive

_PROBE_PAUSE: Final = 0.02
_COMMAND_PAUSE: Final = 0.2
_CANARY_PAUSE: Final = 0.2
"""A canary costs the worker more than a probe does."""


class NotServingError(Exception):
    """The worker does not serve, or answers wrongly; the message says what it does."""


@dataclass(frozen=True)
class Questions:
    """What a restored worker is asked; without any it is not woken."""

    probe: Probe | None = None
    """The worker's own; None if it has none that can be asked without kubelet."""
    canary: CanaryCall | None = None
    answer: str | None = None
    """sha256 of what the captured worker answered to the canary; None if it was not asked."""

    def __bool__(self) -> bool:
        return self.probe is not None or self.canary is not None


def wake(pids: Iterable[int], control: ControlDir, context: str) -> None:
    """Let processes run, with the files that a restored worker finds."""
    control.write(control_files.RESTORE_CONTEXT, context)
    control.write(control_files.RESTORE_COMPLETE, control_files.DONE)
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def forget_woken(control: ControlDir) -> None:
    """Remove what ``wake`` wrote: the container has no restored worker."""
    for name in (control_files.RESTORE_COMPLETE, control_files.RESTORE_CONTEXT):
        control.remove(name)


def await_answers(
    questions: Questions, tree: Mapping[int, Status], init_pid: int, control: ControlDir, proc: Path
) -> None:
    """Wait until the worker's probe passes, and then until it answers its canary.

    Raises:
        NotServingError: it ends, does not serve in time, or answers wrongly.
    """
    root = next(iter(tree))
    if (probe := questions.probe) is not None:
        pause = _PROBE_PAUSE if not probe.command else _COMMAND_PAUSE
        _await(lambda: _ask_probe(probe, init_pid, control, proc), root, proc, probe.patience, pause)
    if (call := questions.canary) is not None:
        seconds = call.canary.seconds
        _await(lambda: _ask_canary(call, questions.answer, init_pid, control, proc), root, proc, seconds, _CANARY_PAUSE)


def _ask_probe(probe: Probe, init_pid: int, control: ControlDir, proc: Path) -> str | None:
    problem = f"the restored worker's probe does not pass within {probe.patience:.0f} s"
    if not probe.command:
        found = problem_of(probe, init_pid, proc)
        return f"{problem}: {found}" if found else None
    try:
        ended = commands.run(probe.command, control.directory, init_pid, probe.timeout)
    except commands.CommandError as error:
        return f"{problem}: {probe.command[0]}: {error}"
    said = f": {ended.complaint}" if ended.complaint else ""
    return f"{problem}: {probe.command[0]} ends with status {ended.status}{said}" if ended.status else None


def _ask_canary(call: CanaryCall, source: str | None, init_pid: int, control: ControlDir, proc: Path) -> str | None:
    """Ask once; None if the answer is right, else what it lacks.

    Raises:
        NotServingError: the answer is there and wrong: asking again would make it no better.
    """
    try:
        answer = ask(call, init_pid, control.directory, proc)
    except NoAnswerError as error:
        if error.final:
            raise NotServingError(f"canary: {error}") from error
        return f"canary: {error}"
    problem = wrong(call.canary, answer, source)
    if problem is not None and answer.status == call.canary.status:
        raise NotServingError(f"canary: {problem}")
    return None if problem is None else f"canary: {problem}"


def _await(problem: Callable[[], str | None], root: int, proc: Path, seconds: float, pause: float) -> None:
    """Ask until there is no problem, the worker ends, or it is too late."""
    end = time.monotonic() + seconds
    while True:
        if not is_alive(root, proc):
            raise NotServingError("the restored worker ended at once; see the container's log")
        if (found := problem()) is None:
            return
        if time.monotonic() > end:
            raise NotServingError(found)
        time.sleep(pause)
