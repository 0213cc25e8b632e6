"""Notes which System V objects and message queues a restore has made in a pod, in the order in which it made them.

The IPC namespace outlives the container. So the note outlives the restore: with it the next one in the same pod takes
away what an earlier one brought, and a capture knows whose the objects are. It is in the pod's control volume on the
node, beside the containers' own parts of it, where no container sees it.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

from agent.container.ipc.objects import Name
from agent.executor.api import ContainerRef
from agent.executor.files.undo_journal import SAFE, place_of
from contract.config.storage import check_id
from linux import syscalls
from linux.ipc.sysvipc import KINDS

T = TypeVar("T")
_QUEUE: Final = "mq"
_MOST: Final = 1 << 20
"""Bytes that are read; a line has some ten, and a worker a thousand objects at most."""


class Made:
    """The note of one container."""

    def __init__(self, kubelet_pods: Path, place: ContainerRef) -> None:
        self._volume, self._name = place_of(kubelet_pods, place.pod_uid), f".ipc-{check_id(place.container)}"

    def close(self) -> None:
        """Let go of the volume."""
        os.close(self._volume)

    def add(self, name: Name) -> None:
        """Note that an object was made.

        Raises:
            OSError: the volume is full.
        """
        self._append(f"{name[0]} {name[1]}\n")

    def _append(self, line: str) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        file = os.open(self._name, flags, 0o600, dir_fd=self._volume)
        try:
            os.write(file, line.encode())
        finally:
            os.close(file)

    def _lines(self) -> list[str]:
        """Return what is noted; nothing without a note."""
        try:
            file = syscalls.openat2(self._volume, self._name, os.O_RDONLY, resolve=SAFE)
        except OSError:
            return []
        try:
            return os.read(file, _MOST).decode("ascii", "replace").splitlines()
        finally:
            os.close(file)

    def names(self) -> list[Name]:
        """Return the System V objects that are noted."""
        words = [line.split() for line in self._lines()]
        return [(each[0], int(each[1])) for each in words if len(each) == 2 and each[0] in KINDS and each[1].isdigit()]  # noqa: PLR2004

    def add_queue(self, name: str) -> None:
        """Note that a POSIX message queue was made.

        Raises:
            OSError: the volume is full.
        """
        self._append(f"{_QUEUE} {name.encode().hex()}\n")

    def queues(self) -> list[str]:
        """Return the names of those that are noted."""
        words = [line.split() for line in self._lines()]
        return [bytes.fromhex(each[1]).decode() for each in words if len(each) == 2 and each[0] == _QUEUE]  # noqa: PLR2004

    def has_lines(self) -> bool:
        """Say whether anything is noted."""
        return bool(self._lines())

    def forget(self) -> None:
        """Remove the note, there or not."""
        try:
            os.unlink(self._name, dir_fd=self._volume)
        except FileNotFoundError:
            return


def noted(kubelet_pods: Path, place: ContainerRef) -> list[Name]:
    """Return the objects that restores have made in a container's pod for it; none of a pod without a volume."""
    return _noted(kubelet_pods, place, Made.names, [])


def is_noted(kubelet_pods: Path, place: ContainerRef) -> bool:
    """Say whether restores have made anything there, message queues too."""
    return _noted(kubelet_pods, place, Made.has_lines, otherwise=False)


def _noted(kubelet_pods: Path, place: ContainerRef, what: Callable[[Made], T], otherwise: T) -> T:
    try:
        made = Made(kubelet_pods, place)
    except OSError:
        return otherwise
    try:
        return what(made)
    finally:
        made.close()
