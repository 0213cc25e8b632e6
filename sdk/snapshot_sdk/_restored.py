"""What is done in a restored process before it goes on: generators and environment renewed, then the worker's hooks.

A process that waits in ``quiesce()`` does it before that returns. In any other that has hooks, a thread looks for the
file that standby writes before it wakes the restored tree: up to ``LOOK_SECONDS`` pass.
"""

from __future__ import annotations

import os
import sys
import threading
from functools import partial
from typing import TYPE_CHECKING

import snapshot_sdk
from snapshot_sdk import _renewed

if TYPE_CHECKING:
    from collections.abc import Callable

LOOK_SECONDS = 0.02
LATER_SECONDS = 0.1
"""The same in a container whose worker has started: it may be captured while it runs, and restored in another."""
OWN_SECONDS = 10.0
"""For each thing that is renewed by itself: none takes a millisecond."""


class _Hook:
    def __init__(self, call: Callable[[], object], seconds: float, name: str) -> None:
        self.call, self.seconds, self.name = call, seconds, name


class _Process:
    """What this process has registered, and whether it has been done."""

    def __init__(self) -> None:
        self.hooks: list[_Hook] = []
        self.environment = _renewed.container_environment()
        self.lock = threading.Lock()
        self.done_in: str | None = None
        """The claim of the container in which it was done last: a restored worker may be captured in turn."""
        self.error: BaseException | None = None
        """What a hook raised: raised to the second caller as well, since the watching thread is mostly first."""
        self.is_watched = False


_process = _Process()


def add(hook: Callable[[], object], seconds: float, name: str) -> None:
    """Register a hook, and see that it is called even if this process never calls ``quiesce``."""
    _process.hooks.append(_Hook(hook, seconds, name))
    _watch()


def renew() -> None:
    """Do once in each container what a restored process needs.

    Raises:
        HookTimeoutError: a hook takes longer than its seconds; or what a hook raises.
    """
    with _process.lock:
        here = snapshot_sdk.claim(snapshot_sdk.control_dir())
        if _process.done_in != here:
            _process.done_in, _process.error = here, None
            try:
                for hook in _all_hooks():
                    run(hook.call, hook.seconds, hook.name)
            except BaseException as error:  # noqa: BLE001 - raised below, each time
                _process.error = error
        if _process.error is not None:
            raise _process.error


def run(hook: Callable[[], object], seconds: float, name: str) -> None:
    """Call a hook in a thread: what waits for a process that has ended never returns.

    Raises:
        HookTimeoutError: it does not return in time; or what it raises.
    """
    raised: list[BaseException] = []

    def call() -> None:
        try:
            hook()
        except BaseException as error:  # noqa: BLE001 - raised where the caller is
            raised.append(error)

    thread = threading.Thread(target=call, name="snapshot-hook", daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        raise snapshot_sdk.HookTimeoutError(f"hook {name} did not return within {seconds:g} s")
    if raised:
        raise raised[0]


def name_of(hook: Callable[..., object]) -> str:
    """Return the name that messages have for a hook."""
    return getattr(hook, "__qualname__", repr(hook))


def _all_hooks() -> list[_Hook]:
    environment, place = _process.environment, snapshot_sdk.place()
    generators = _renewed.SECRET if snapshot_sdk.keeps_seeds() else (*_renewed.SECRET, *_renewed.REPEATABLE)
    own = [(name_of(call), partial(call, place)) for call in generators]
    own.append(("renew_environment", partial(_renewed.renew_environment, environment)))
    return [*(_Hook(call, OWN_SECONDS, name) for name, call in own), *_process.hooks]


def _watch() -> None:
    """Start the thread that waits for restores, but only where one may come."""
    directory = snapshot_sdk.control_dir()
    if directory is None or _process.is_watched:
        return
    _process.is_watched = True
    # Found out here: the thread may run for the first time in a restored process.
    settled = snapshot_sdk.claim(directory) if snapshot_sdk.is_over(directory) else None
    threading.Thread(target=_await_restore, args=(directory, settled), name="snapshot-restore", daemon=True).start()


def _await_restore(directory: str, settled: str | None) -> None:
    while True:
        snapshot_sdk.pause(LOOK_SECONDS if settled is None else LATER_SECONDS)
        here = snapshot_sdk.claim(directory)
        if here == settled or not snapshot_sdk.is_over(directory):
            continue
        settled = here
        if snapshot_sdk.was_restored(directory):
            try:
                renew()
            except BaseException as error:  # noqa: BLE001 - no other thread waits for this one
                sys.stderr.write(f"snapshot_sdk: after the restore: {type(error).__name__}: {error}\n")


def _after_fork() -> None:
    """Watch in the child as well: threads stay behind, and a lock may have been held."""
    _process.lock = threading.Lock()
    if _process.is_watched:
        _process.is_watched = False
        _watch()


os.register_at_fork(after_in_child=_after_fork)
