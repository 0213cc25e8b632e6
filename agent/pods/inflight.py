"""Pieces of work in flight: each key once at a time, and an orderly end."""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, Final

from kube.errors import KubeError

AGAIN_SECONDS: Final = 1.0
"""Seconds after which work that the API server kept from ending may be started again."""

Work = Callable[[], Coroutine[Any, Any, None]]
logger = logging.getLogger(__name__)


class InFlight:
    """The work that runs now."""

    def __init__(self) -> None:
        self._tasks: dict[Hashable, asyncio.Task[None]] = {}
        self._closed = False

    def __contains__(self, key: Hashable) -> bool:
        return key in self._tasks

    def start(self, key: Hashable, work: Work, done: Callable[[], None]) -> bool:
        """Begin *work* unless something runs under *key*; *done* is called when it has ended, however it did."""
        if self._closed or key in self._tasks:
            return False
        task = asyncio.create_task(_guarded(key, work), name=f"{key}")
        self._tasks[key] = task
        task.add_done_callback(lambda _: self._ended(key, done))
        return True

    def cancel(self, key: Hashable) -> None:
        """Stop what runs under *key*, if anything: its object no longer exists."""
        if (task := self._tasks.get(key)) is not None:
            task.cancel()

    def _ended(self, key: Hashable, done: Callable[[], None]) -> None:
        del self._tasks[key]
        if not self._closed:
            done()

    async def drain(self, seconds: float) -> None:
        """Take no more work, give what runs *seconds* to end, then cancel it."""
        self._closed = True
        if not self._tasks:
            return
        logger.info("waiting for work in flight", extra={"work": [str(key) for key in self._tasks]})
        _, left = await asyncio.wait(self._tasks.values(), timeout=seconds)
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left)


async def _guarded(key: Hashable, work: Work) -> None:
    """Run *work*; an unexpected error does not stop the work on other pods, and a pause keeps it from spinning."""
    try:
        await work()
    except KubeError as error:
        logger.warning("%s: %s", key, error)
    except Exception:
        logger.exception("%s: unexpected error", key)
    else:
        return
    await asyncio.sleep(AGAIN_SECONDS)
