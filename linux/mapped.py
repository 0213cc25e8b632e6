"""Files that a process has mapped, read from the text of /proc/PID/maps and from /proc/PID/map_files."""

import os
import re
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from linux.proc import PROC

_DELETED: Final = re.compile(r"^(\w+)-(\w+) \S+ \S+ (\S+ \d+) +(/.*) \(deleted\)$", re.MULTILINE)
_PATH: Final = re.compile(r"^\S+ \S+ \S+ \S+ \d+ +(/.*)$", re.MULTILINE)
_MEMORY: Final = ("/memfd:", "/dev/zero", "/SYSV", "/anon_hugepage", "/secretmem", "/[aio]")
"""Beginnings of what the kernel calls memory that is shared, and no file: without its name it is no less there."""


def mapped_files(maps: str) -> frozenset[str]:
    """Return the paths in the text of a process's maps, as the links of its descriptors name them."""
    return frozenset(_PATH.findall(maps))


def unlinked_bytes(path: str, found: os.stat_result) -> int:
    """Return how much a file holds that has no name any more; sparse files count by their blocks."""
    is_unlinked = stat.S_ISREG(found.st_mode) and found.st_nlink == 0 and not path.startswith(_MEMORY)
    return found.st_blocks * 512 if is_unlinked else 0


def unlinked_files(pid: int, maps: str, proc: Path = PROC) -> Iterator[tuple[str, int]]:
    """Yield path and bytes of each file that is mapped and has no name any more.

    Args:
        pid: whose.
        maps: the text of its maps.
        proc: /proc of the node.
    """
    for path, link in deleted_files(pid, maps, proc):
        with suppress(OSError):  # unmapped meanwhile
            yield path, unlinked_bytes(path, os.stat(link))  # noqa: PTH116 - many


def deleted_files(pid: int, maps: str, proc: Path = PROC) -> Iterator[tuple[str, str]]:
    """Yield the path of each mapped file that does not have this name any more, and the link of /proc to it."""
    if " (deleted)" not in maps:
        return
    seen = set()
    for begin, end, key, path in _DELETED.findall(maps):
        if key not in seen and not path.startswith(_MEMORY):
            seen.add(key)
            yield path, f"{proc}/{pid}/map_files/{int(begin, 16):x}-{int(end, 16):x}"
