"""Deleted folders and files that criu cannot make once more: it does so at their former names, for a moment."""

import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from agent.container.inspection import open_in_container

if TYPE_CHECKING:
    from agent.preflight.facts import Process

_DELETED: Final = " (deleted)"


def taken_names(init_pid: int, by_pid: "Mapping[int, Process]", proc: Path) -> Iterator[str]:
    """Say of each deleted folder or file that processes have what is in its way.

    criu leaves the folders that it made above a deleted folder, removes what is at such a folder's name, and cannot
    make a folder below a file. A folder of the image itself it does not take for a deleted one.
    """
    for pid, process in by_pid.items():
        links = [f"{proc}/{pid}/{name}" for name in ("cwd", "root")]
        links += [f"{proc}/{pid}/fd/{each.number}" for each in process.descriptors if each.target.endswith(_DELETED)]
        for link in links:
            with suppress(OSError):
                path = os.readlink(link)  # noqa: PTH115 - a text, of no path of ours
                if not path.endswith(_DELETED):
                    continue
                found = os.stat(link)  # noqa: PTH116 - see above
                if words := _in_the_way(init_pid, path, found, proc):
                    yield f"{process} has {path}, and {words}"


def _in_the_way(init_pid: int, path: str, found: os.stat_result, proc: Path) -> str:
    is_folder = stat.S_ISDIR(found.st_mode)
    if found.st_nlink:
        is_lost = is_folder and not _leads_to(init_pid, path, found, proc)
        return "it is a folder of the image" if is_lost else ""
    above, _, name = path.removesuffix(_DELETED).rpartition("/")
    try:
        folder = open_in_container(init_pid, above or "/", proc=proc)
    except NotADirectoryError:
        return f"{above} is no folder any more"
    except OSError:
        return f"{above} was deleted too" if is_folder else ""
    try:
        os.lstat(name, dir_fd=folder)
    except OSError:
        return ""
    finally:
        os.close(folder)
    return "something else has its name" if is_folder else ""


def _leads_to(init_pid: int, path: str, wanted: os.stat_result, proc: Path) -> bool:
    """Say whether a folder is at a path: its name may end as the kernel marks deleted ones."""
    try:
        folder = open_in_container(init_pid, path, proc=proc)
    except OSError:
        return False
    try:
        return os.path.samestat(os.fstat(folder), wanted)
    finally:
        os.close(folder)
