"""What a restore is about to overwrite, kept until the restore has succeeded or has been taken back.

It is kept in the pod's control volume on the node, beside the containers' own parts of it: no container sees it there,
the next agent finds it, and it is removed with the pod.
"""

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from agent.container.files.dated_links import DatedLink
from contract.api import keys
from contract.api.reports import ReportPhase
from contract.config.storage import check_id
from linux import syscalls

SAFE: Final = syscalls.BENEATH | syscalls.NO_SYMLINKS | syscalls.NO_MAGICLINKS
_LINKS: Final = "links"
_NEW: Final = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Journal:
    """An open journal; steps are undone last first."""

    def __init__(self, parent: int, name: str) -> None:
        self._parent = parent
        self._name = name
        self._directory = syscalls.openat2(parent, name, os.O_RDONLY | os.O_DIRECTORY, resolve=SAFE)
        self._open: list[int] = [parent, self._directory]

    @classmethod
    def create(cls, kubelet_pods: Path, pod_uid: str, container: str) -> Self:
        """Create a journal; one of a former attempt has been undone before, or is lost."""
        parent, name = _place(kubelet_pods, pod_uid, container)
        shutil.rmtree(name, ignore_errors=True, dir_fd=parent)
        os.mkdir(name, 0o700, dir_fd=parent)
        return cls(parent, name)

    @classmethod
    def find(cls, kubelet_pods: Path, pod_uid: str, container: str) -> Self | None:
        """Open the journal that an attempt left; None if there is none."""
        try:
            parent, name = _place(kubelet_pods, pod_uid, container)
        except OSError:
            return None
        try:
            return cls(parent, name)
        except OSError:
            os.close(parent)
            return None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        while self._open:
            os.close(self._open.pop())

    def step(self, number: int) -> dict[str, int]:
        """Create the files of a step, as descriptors for the process that makes the change."""
        made = {
            "undo_tar": os.open(f"{number}.tar", _NEW, 0o600, dir_fd=self._directory),
            "undo_list": os.open(f"{number}.json", _NEW, 0o600, dir_fd=self._directory),
        }
        self._open += made.values()
        return made

    def undo_steps(self) -> list[dict[str, Any]]:
        """Return the file changes that undo every step that was started.

        Raises:
            OSError, ValueError: the journal is not whole; the step it was written for has not started then.
        """
        steps = []
        numbers = sorted(int(n.removesuffix(".json")) for n in os.listdir(self._directory) if n.endswith(".json"))  # noqa: PTH208 - a descriptor
        for number in reversed(numbers):
            with os.fdopen(self._read(f"{number}.json"), encoding="utf-8") as file:
                text = file.read()
            if not text:
                continue  # written whole before the first change: this step has changed nothing
            saved = json.loads(text)
            tar = self._read(f"{number}.tar")
            self._open.append(tar)
            steps.append(
                {
                    "what": ReportPhase.UNDO.value,
                    "root": saved["root"],
                    "tar": tar,
                    "gone": saved["gone"],
                    "emptied": (),
                    "top": saved.get("top"),
                }
            )
        return steps

    def note_links(self, links: Sequence[DatedLink]) -> None:
        """Write down the links that are about to be made, if any."""
        if links:
            fd = os.open(_LINKS, _NEW, 0o600, dir_fd=self._directory)
            with os.fdopen(fd, "w", encoding="utf-8") as file:
                json.dump(links, file)
                file.flush()
                os.fsync(fd)

    def links(self) -> list[DatedLink]:
        """Return the links that may have been made.

        Raises:
            OSError, ValueError: the list is not whole; none was made then.
        """
        try:
            fd = self._read(_LINKS)
        except FileNotFoundError:
            return []
        with os.fdopen(fd, encoding="utf-8") as file:
            return [DatedLink(*link) for link in json.loads(file.read() or "[]")]

    def remove(self) -> None:
        """Forget what was saved."""
        shutil.rmtree(self._name, ignore_errors=True, dir_fd=self._parent)

    def _read(self, name: str) -> int:
        return syscalls.openat2(self._directory, name, os.O_RDONLY, resolve=SAFE)


def _place(kubelet_pods: Path, pod_uid: str, container: str) -> tuple[int, str]:
    """Open the volume's own directory; also return a name in it that no container can have."""
    return place_of(kubelet_pods, pod_uid), f".restore-{check_id(container)}"


def place_of(kubelet_pods: Path, pod_uid: str) -> int:
    """Open the control volume's own directory.

    Raises:
        OSError: the pod has none.
    """
    root = os.open(kubelet_pods, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        volume = f"{check_id(pod_uid)}/volumes/kubernetes.io~empty-dir/{keys.CONTROL_VOLUME}"
        return syscalls.openat2(root, volume, os.O_RDONLY | os.O_DIRECTORY, resolve=SAFE)
    finally:
        os.close(root)
