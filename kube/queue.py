"""A queue of keys: each key waits at most once and is handled by one worker at a time.

A key that is added while it is being handled runs once more afterwards, so no change is ever missed; one that fails
comes back later and later; one that is asked for at a time waits for that time. Keys are served in the order in
which they came, so a noisy one cannot starve the others.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Final, Generic, TypeVar

from kube.errors import KubeError

FIRST_BACKOFF: Final = 0.1
LONGEST_BACKOFF: Final = 60.0
"""Seconds: 0.1, 0.2, 0.4 ... 60, each shortened by up to a quarter at random."""
MAX_DOUBLINGS: Final = 16
CONFLICT_PAUSE: Final = 0.2
"""Seconds until our informer cache has surely seen the change that we collided with: what a handler answers then."""

K = TypeVar("K")
Handle = Callable[[K], Awaitable[float | None]]
"""Handles one key; answers in how many seconds it wants to see the key again, or None."""
logger = logging.getLogger(__name__)


class WorkQueue(Generic[K]):
    """Keys to be handled."""

    def __init__(self) -> None:
        # A dict keeps order and uniqueness at once; the values say since when each key waits.
        self._ready: dict[K, float] = {}
        self._running: set[K] = set()
        self._again: set[K] = set()
        self._failures: dict[K, int] = {}
        self._timers: dict[K, asyncio.TimerHandle] = {}
        self._free = asyncio.Event()
        self.retries = 0
        """How often a key failed and was put back."""

    @property
    def depth(self) -> int:
        """Keys that wait for their turn now, those that wait for a time left out."""
        return len(self._ready)

    def oldest_seconds(self) -> float:
        """Return how long the key whose turn is next has waited; 0 if none waits."""
        since = next(iter(self._ready.values()), None)
        return 0.0 if since is None else monotonic() - since

    def add(self, key: K) -> None:
        """Have *key* handled as soon as its turn comes."""
        self._cancel_timer(key)
        if key in self._running:
            self._again.add(key)
            return
        self._ready.setdefault(key, monotonic())
        self._free.set()

    def add_after(self, key: K, seconds: float) -> None:
        """Have *key* handled in *seconds*, or sooner if that was already wanted."""
        if key in self._ready or key in self._again:
            return
        loop = asyncio.get_running_loop()
        timer = self._timers.get(key)
        if timer is not None and timer.when() <= loop.time() + seconds:
            return
        self._cancel_timer(key)
        self._timers[key] = loop.call_later(seconds, self._due, key)

    async def run(self, handle: Handle[K], workers: int) -> None:
        """Handle keys with up to *workers* at a time until cancelled.

        An exception that is not a KubeError is a bug: it is logged with its trace, and the key is tried again like
        any other, because one bad object must not stop the work on all others.
        """
        async with asyncio.TaskGroup() as group:
            for number in range(workers):
                group.create_task(self._work(handle), name=f"queue worker {number}")

    async def _work(self, handle: Handle[K]) -> None:
        while True:
            key = await self._next()
            try:
                await self._one(handle, key)
            finally:
                self._running.discard(key)
            if key in self._again:
                self._again.discard(key)
                self.add(key)

    async def _next(self) -> K:
        while not self._ready:
            self._free.clear()
            await self._free.wait()
        key = next(iter(self._ready))
        del self._ready[key]
        self._running.add(key)
        return key

    async def _one(self, handle: Handle[K], key: K) -> None:
        try:
            seconds = await handle(key)
        except KubeError as error:
            pause = self._backoff(key, error.retry_after)
            logger.warning("%s: %s; again in %.1f s", key, error, pause)
        except Exception:
            pause = self._backoff(key, None)
            logger.exception("%s: unexpected error; again in %.1f s", key, pause)
        else:
            self._failures.pop(key, None)
            if seconds is None:
                return
            pause = seconds
        self.add_after(key, pause)

    def _backoff(self, key: K, retry_after: float | None) -> float:
        self.retries += 1
        failures = self._failures.get(key, 0)
        self._failures[key] = min(failures + 1, MAX_DOUBLINGS)
        pause = min(FIRST_BACKOFF * 2.0**failures, LONGEST_BACKOFF) * random.uniform(0.75, 1)  # noqa: S311 - spreads load
        return max(pause, retry_after or 0.0)

    def _due(self, key: K) -> None:
        self._timers.pop(key, None)
        self.add(key)

    def _cancel_timer(self, key: K) -> None:
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer.cancel()
