"""How long each phase took, when it ran, and what no phase accounts for."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from contract.api.reports import ReportPhase, Step


class Timings:
    """A stopwatch for phases; *since* is a moment of the monotonic clock, by default now."""

    def __init__(self, since: float | None = None) -> None:
        self._start = time.monotonic() if since is None else since
        self._steps: list[Step] = []
        self._seconds: dict[ReportPhase, float] = {}

    def passed(self, phase: ReportPhase) -> None:
        """Name the time since the start."""
        step = Step(phase, self._start, time.monotonic() - self._start)
        self._note(step, step.seconds)

    @contextmanager
    def phase(self, name: ReportPhase) -> Iterator[list[Step]]:
        """Time a block, also if it fails; seconds of inner steps that it fills in are taken off its own."""
        start = time.monotonic()
        inner: list[Step] = []
        try:
            yield inner
        finally:
            whole = Step(name, start, time.monotonic() - start)
            for step in inner:
                self._note(step, step.seconds)
            self._note(whole, whole.seconds - sum(step.seconds for step in inner))

    def beside(self, step: Step) -> None:
        """Put a step on the time line that no phase waits for: it is in no sum of seconds."""
        self._steps.append(step)

    def _note(self, step: Step, own: float) -> None:
        self._steps.append(step)
        self._seconds[step.phase] = self._seconds.get(step.phase, 0.0) + own

    def since_start(self, step: Step) -> Step:
        """Return a step of the monotonic clock as the time line has it."""
        return replace(step, start=step.start - self._start)

    def seconds(self) -> dict[str, float]:
        """Return the seconds by phase, then ``other`` (what no phase accounts for) and ``total``."""
        total = time.monotonic() - self._start
        laps: dict[str, float] = {name: round(value, 4) for name, value in self._seconds.items()}
        rest = round(total - sum(self._seconds.values()), 4)
        return laps | {ReportPhase.OTHER.value: rest, ReportPhase.TOTAL.value: round(total, 4)}

    def steps(self) -> tuple[Step, ...]:
        """Return the time line, by start: each step with its seconds since the stopwatch began."""
        return tuple(sorted(map(self.since_start, self._steps), key=lambda step: (step.start, -step.seconds)))
