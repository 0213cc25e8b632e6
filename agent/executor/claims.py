"""Wakes restores that wait for a container as soon as its standby has written its claim.

Looking goes on at its own pace beside it: a container that makes changes without end, or a node without inotify,
costs and loses nothing.
"""

import asyncio
from contextlib import suppress

from agent.executor import lock
from agent.executor.api import ContainerRef
from agent.executor.environment import NodeEnvironment
from agent.executor.lock import ControlDir
from contract.api import control_files
from contract.config.storage import BadIdError
from linux.inotify import MODIFY, Inotify


class Claims:
    """The control directories of containers that are awaited."""

    def __init__(self, environment: NodeEnvironment) -> None:
        self._environment = environment
        self._inotify: Inotify | None = None
        self._waiting: dict[int, list[asyncio.Event]] = {}

    async def wait(self, place: ContainerRef, seconds: float) -> bool:
        """Wait that long, or until a file in the container's control directory is written; say whether one was."""
        written = asyncio.Event()
        watch = self._watch(place, written)
        try:
            async with asyncio.timeout(seconds):
                await written.wait()
        except TimeoutError:
            return False
        finally:
            if watch is not None:
                self._forget(watch, written)
        return True

    def _watch(self, place: ContainerRef, written: asyncio.Event) -> int | None:
        with suppress(OSError, BadIdError):
            directory = lock.open_control_dir(self._environment.kubelet_pods, place.pod_uid, place.container)
            with ControlDir(directory) as control:
                watch = self._started().watch(directory, MODIFY)
                self._waiting.setdefault(watch, []).append(written)
                if control.has(control_files.CLAIM):  # made since the last look
                    written.set()
            return watch
        return None

    def _started(self) -> Inotify:
        if self._inotify is None:
            self._inotify = Inotify()
            asyncio.get_running_loop().add_reader(self._inotify.fd, self._wake)
        return self._inotify

    def _wake(self) -> None:
        for watch in self._started().changed():
            for written in self._waiting.get(watch, ()):
                written.set()

    def _forget(self, watch: int, written: asyncio.Event) -> None:
        self._waiting[watch].remove(written)
        if not self._waiting[watch]:
            del self._waiting[watch]
            self._started().forget(watch)
