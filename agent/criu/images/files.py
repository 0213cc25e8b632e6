"""Reads and replaces single files of an images directory, by its descriptor."""

import os
import re
import stat
from collections.abc import Iterator
from typing import Final

_PART: Final = 1 << 20
_CORE: Final = re.compile(r"core-([0-9]{1,10})\.img")


def read_image(directory: int, name: str) -> bytes:
    """Return the content of an image."""
    file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    try:  # by plain calls: a worker has an image for each of its threads
        parts = []
        while part := os.read(file, _PART):
            parts.append(part)
        return b"".join(parts)
    finally:
        os.close(file)


def replace_image(directory: int, name: str, content: bytes) -> None:
    """Give an image other content, whole: it keeps its mode."""
    mode = stat.S_IMODE(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode)
    temporary = f".{name}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    with os.fdopen(os.open(temporary, flags, mode, dir_fd=directory), "wb") as file:
        file.write(content)
    os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)


def core_images(directory: int) -> Iterator[tuple[int, str]]:
    """Yield number, inside the container, and name of each image that describes a process or another thread."""
    for name in os.listdir(directory):
        if match := _CORE.fullmatch(name):
            yield int(match[1]), name
