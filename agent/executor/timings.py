"""How long each phase took, and what no phase accounts for."""

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Timings:
    """A stopwatch for named phases."""

    def __init__(self, since: float | None = None) -> None:
        self._start = time.monotonic() if since is None else since
        self._seconds: dict[str, float] = {}

    def passed(self, name: str) -> None:
        """Name the time since the start."""
        self._seconds[name] = time.monotonic() - self._start

    @contextmanager
    def phase(self, name: str) -> Iterator[dict[str, float]]:
        """Time a block, also if it fails; seconds of inner steps that it fills in are taken off its own."""
        start = time.monotonic()
        steps: dict[str, float] = {}
        try:
            yield steps
        finally:
            steps[name] = time.monotonic() - start - sum(steps.values())
            for step, value in steps.items():
                self._seconds[step] = self._seconds.get(step, 0.0) + value

    def seconds(self) -> dict[str, float]:
        """Return the seconds by name in order, then ``other`` (what no phase accounts for) and ``total``."""
        total = time.monotonic() - self._start
        laps = {name: round(value, 4) for name, value in self._seconds.items()}
        return laps | {"other": round(total - sum(self._seconds.values()), 4), "total": round(total, 4)}
