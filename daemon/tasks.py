"""The tasks of a process live and die together.

If one fails or ends, the process must not go on with the rest: a controller without its informer acts on the past.
SIGTERM and SIGINT end all tasks in order: each is cancelled and may clean up, then ``run_together`` returns.
"""

import asyncio
import logging
import signal
import sys
from collections.abc import Callable, Coroutine, Iterator, Mapping
from typing import Any, Final

from daemon.settings import SettingsError

SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
EXIT_CONFIG: Final = 2
"""Exit code for unusable settings, as for wrong usage of a command."""

Task = Callable[[], Coroutine[Any, Any, None]]
logger = logging.getLogger(__name__)


class TaskEndedError(Exception):
    """A task that should run as long as the process returned."""


async def all_of(tasks: Mapping[str, Task]) -> None:
    """Run named *tasks* until cancelled.

    Raises:
        ExceptionGroup: a task failed or returned; the others were cancelled first.
    """
    async with asyncio.TaskGroup() as group:
        for name, task in tasks.items():
            group.create_task(_endless(name, task), name=name)


async def run_together(tasks: Mapping[str, Task]) -> None:
    """Run named *tasks* until a signal comes; then they are cancelled, and this returns.

    Raises:
        ExceptionGroup: a task failed or returned; the others were cancelled first.
    """
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    for number in SIGNALS:
        loop.add_signal_handler(number, _stop, stopping, number)
    try:
        async with asyncio.TaskGroup() as group:
            whole = group.create_task(all_of(tasks), name="all tasks")
            await stopping.wait()
            whole.cancel()
    finally:
        for number in SIGNALS:
            loop.remove_signal_handler(number)


def main(process: Callable[[], Coroutine[Any, Any, None]]) -> int:
    """Run *process* to its end and answer the exit code; errors are logged, settings errors printed plainly."""
    try:
        asyncio.run(process())
    except SettingsError as error:
        for problem in error.problems:
            print(f"error: {problem}", file=sys.stderr)  # noqa: T201 - the log may not be set up yet
        return EXIT_CONFIG
    except Exception as error:  # the last stop of every error
        for leaf in leaves(error):
            logger.critical("%s: %s", type(leaf).__name__, leaf, exc_info=leaf)
        return 1
    return 0


def leaves(error: BaseException) -> Iterator[BaseException]:
    """Return the errors in *error*, looking into groups."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from leaves(inner)
    else:
        yield error


async def _endless(name: str, task: Task) -> None:
    await task()
    raise TaskEndedError(f"task {name!r} ended, so the process does")


def _stop(stopping: asyncio.Event, number: signal.Signals) -> None:
    logger.info("stopping", extra={"signal": signal.Signals(number).name})
    stopping.set()
