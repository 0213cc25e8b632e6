"""How long each step took, and one line that adds them up with what no step accounts for."""

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Timings:
    """A stopwatch with named laps."""

    def __init__(self, since: float | None = None) -> None:
        self._start = time.monotonic() if since is None else since
        self._seconds: dict[str, float] = {}

    def passed(self, name: str) -> None:
        """Call a lap what has passed since the start."""
        self._seconds[name] = time.monotonic() - self._start

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Time a block; the time counts also where it fails."""
        start = time.monotonic()
        try:
            yield
        finally:
            self._seconds[name] = self._seconds.get(name, 0.0) + time.monotonic() - start

    @contextmanager
    def split(self, rest: str) -> Iterator[dict[str, float]]:
        """Time a block that fills in its own steps' seconds; what they leave is ``rest``."""
        start = time.monotonic()
        steps: dict[str, float] = {}
        try:
            yield steps
        finally:
            steps[rest] = time.monotonic() - start - sum(steps.values())
            for name, value in steps.items():
                self._seconds[name] = self._seconds.get(name, 0.0) + value

    def seconds(self) -> dict[str, float]:
        """Seconds by name in order, then ``other`` (what no lap accounts for) and ``total``."""
        total = time.monotonic() - self._start
        laps = {name: round(value, 4) for name, value in self._seconds.items()}
        return laps | {"other": round(total - sum(self._seconds.values()), 4), "total": round(total, 4)}
