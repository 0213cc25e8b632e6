"""Gives deleted files of a stopped worker the names once more by which a restore opens them.

criu makes such names for files that have others left, and takes them away if the worker goes on. They must be there
when the worker's files are saved, and not any more when it runs.
"""

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Final

from agent.container.inspection import open_in_container
from agent.criu.images.remaps import MARK, GivenName
from agent.errors import RefusedError
from contract.api.states import AgentReason
from linux.mapped import deleted_files
from linux.proc import PROC

_DELETED: Final = " (deleted)"
_GIVEN: Final = re.compile(re.escape(MARK) + r"\d+")


def give_names(names: Iterable[GivenName], init_pid: int, pids: Iterable[int], undo: ExitStack) -> None:
    """Make the links; *undo* takes them away.

    Raises:
        RefusedError: which file has a name, processes that are stopped do not say.
        OSError: a folder is not there any more.
    """
    pids = tuple(pids)
    for name in names:
        folder, _, last = name.given.rpartition("/")
        directory = open_in_container(init_pid, folder or "/")
        undo.callback(os.close, directory)
        os.link(_opened(name.original, pids), last, dst_dir_fd=directory, follow_symlinks=True)
        undo.callback(_take_away, last, directory)


def take_away_left(init_pid: int, pids: Iterable[int]) -> None:
    """Take away names that an agent, or its criu, was killed over: criu could not give them again."""
    left = {(path, about.st_dev, about.st_ino) for pid in pids for path, _, about in _nameless(pid)}
    for path, device, inode in left:
        with suppress(OSError):
            directory = open_in_container(init_pid, path.rpartition("/")[0] or "/", os.O_RDONLY | os.O_DIRECTORY)
            try:
                for name in filter(_GIVEN.fullmatch, os.listdir(directory)):  # noqa: PTH208 - a descriptor
                    about = os.lstat(name, dir_fd=directory)
                    if (device, inode) == (about.st_dev, about.st_ino):
                        _take_away(name, directory)
            finally:
                os.close(directory)


def _take_away(name: str, directory: int) -> None:
    with suppress(FileNotFoundError):
        os.unlink(name, dir_fd=directory)


def _opened(original: str, pids: Iterable[int]) -> str:
    """Return a link of /proc that leads to a deleted file."""
    links = [each for pid in pids for each in _nameless(pid)]
    found = {(about.st_dev, about.st_ino): link for path, link, about in links if path == original}
    if len(found) != 1:
        words = f"the worker has {len(found)} deleted files open that were {original} and have other names"
        raise RefusedError(AgentReason.UNSUPPORTED_DESCRIPTOR, words)
    return next(iter(found.values()))


def _nameless(pid: int, proc: Path = PROC) -> Iterator[tuple[str, str, os.stat_result]]:
    """Yield former path, link of /proc and status of what is open or mapped, was deleted, and has another name."""
    for path, link in _deleted(proc / str(pid), pid, proc):
        with suppress(OSError):
            about = os.stat(link)  # noqa: PTH116 - a link of /proc
            if about.st_nlink:
                yield path, link, about


def _deleted(base: Path, pid: int, proc: Path) -> Iterator[tuple[str, str]]:
    for each in (base / "fd").iterdir():
        with suppress(OSError):
            target = str(each.readlink())
            if target.startswith("/") and target.endswith(_DELETED):
                yield target.removesuffix(_DELETED), str(each)
    yield from deleted_files(pid, (base / "maps").read_text(errors="surrogateescape"), proc)
