"""Mode, owner and attributes of a folder that is open: of the top of a tree, which no archive of the tree names.

Imports the standard library alone: this may run for a container, in the way of its restore.
"""

import os
import stat
from collections.abc import Mapping
from typing import Any

from linux import tar_content


def describe(folder: int) -> dict[str, Any]:
    """Return them by the keys ``mode``, ``uid``, ``gid`` and ``attributes``, whose values are hexadecimal."""
    found = os.fstat(folder)
    attributes = {name: value.hex() for name, value in tar_content.attributes_of(_path(folder)).items()}
    return {
        "mode": stat.S_IMODE(found.st_mode),
        "uid": found.st_uid,
        "gid": found.st_gid,
        "attributes": attributes,
    }


def dress(folder: int, wanted: Mapping[str, Any]) -> None:
    """Give them to a folder that has others: if it has these already, a read-only file system is no obstacle.

    Raises:
        OSError: they cannot be given to it.
    """
    if describe(folder) == wanted:
        return
    os.chown(".", wanted["uid"], wanted["gid"], dir_fd=folder)
    os.chmod(".", wanted["mode"], dir_fd=folder)  # after chown, which clears the set-id bits
    tar_content.set_attributes(
        _path(folder), {name: bytes.fromhex(value) for name, value in wanted["attributes"].items()}
    )


def _path(folder: int) -> str:
    """Return a path for calls that take no descriptor, or follow no link."""
    return f"/proc/self/fd/{folder}/."
