"""How long work shows its progress: a line or a bar per step."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as RichProgress

Advance = Callable[[int, int], None]
"""Called with (done, total); total 0 means unknown."""

PLAIN_INTERVAL = 20.0
"""Seconds between two lines about one step if there is no terminal: rare enough for a CI log."""


class Progress(Protocol):
    """Where the steps of a build or a start are reported."""

    def say(self, text: str) -> None:
        """Print one line."""

    def step(self, name: str) -> AbstractContextManager[Advance]:
        """Report that *name* begins, continues and ends."""


class Silent:
    """Prints nothing: for tests."""

    def say(self, text: str) -> None:
        """Drop *text*."""

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[Advance]:  # noqa: ARG002  # the protocol's name
        """Print nothing."""
        yield lambda _done, _total: None


class Plain:
    """One line per event, for logs."""

    def __init__(self, write: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._write, self._clock = write, clock

    def say(self, text: str) -> None:
        """Write *text* as it is."""
        self._write(text)

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[Advance]:
        """Write when *name* begins and ends, and now and then in between."""
        begin = printed = self._clock()
        self._write(f"{name} ...")

        def advance(done: int, total: int) -> None:
            nonlocal printed
            if self._clock() - printed >= PLAIN_INTERVAL:
                printed = self._clock()
                self._write(f"{name}: {done} of {total}, {printed - begin:.0f} s")

        yield advance
        self._write(f"{name}: done in {self._clock() - begin:.1f} s")


class Bars:
    """A live bar per step, for terminals. Steps may run side by side."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bars = RichProgress(
            SpinnerColumn(finished_text="[green]✓[/]"),
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
        )
        self._open = 0

    def say(self, text: str) -> None:
        """Print *text* above the bars."""
        self._console.print(text)

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[Advance]:
        """Show a bar for *name* as long as it runs."""
        task = self._bars.add_task(name, total=None)
        self._shown(+1)
        try:
            yield lambda done, total: self._bars.update(task, completed=done, total=total or None)
            self._finish(task)
        finally:
            self._shown(-1)

    def _finish(self, task: TaskID) -> None:
        total = self._bars.tasks[self._bars.task_ids.index(task)].total or 1
        self._bars.update(task, total=total, completed=total)

    def _shown(self, change: int) -> None:
        self._open += change
        if self._open and change > 0:
            self._bars.start()
        if not self._open:
            self._bars.stop()
            for task in list(self._bars.task_ids):
                self._bars.remove_task(task)


def for_terminal() -> Progress:
    """Return bars on a terminal, plain lines elsewhere; both on standard error, so that output stays clean."""
    console = Console(stderr=True)
    if console.is_terminal:
        return Bars(console)
    return Plain(lambda text: console.print(text, markup=False, highlight=False, soft_wrap=True))
