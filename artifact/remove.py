"""Removes artifacts: ``python3 -m artifact remove BASE ID [VERSION]``, what a cleanup Job runs.

Without a version everything of the id is removed. Workers that mount the volume can write there, so every step below
BASE is taken by descriptor and follows no link.
"""

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from contract.config.storage import BadIdError, check_id, check_version

USAGE: Final = "usage: python3 -m artifact remove BASE ID [VERSION]"
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def remove(base: Path, checkpoint_id: str, version: str = "") -> bool:
    """Remove ``<base>/<id>``, or ``<base>/<id>/versions/<version>`` alone; False if there is none.

    Nothing outside is touched, whatever is there.

    Raises:
        BadIdError: *checkpoint_id* or *version* cannot be part of a path.
        OSError: something could not be removed, or a link is in its place.
    """
    parts = [check_id(checkpoint_id), *(["versions", check_version(version)] if version else [])]
    try:
        with _beneath(base, parts[:-1]) as directory:
            shutil.rmtree(parts[-1], dir_fd=directory)
    except FileNotFoundError:
        return False
    return True


@contextmanager
def _beneath(base: Path, parts: list[str]) -> Iterator[int]:
    """Yield a descriptor of ``<base>/<part>/...``."""
    current = os.open(base, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for part in parts:
            inner = os.open(part, _DIRECTORY, dir_fd=current)
            os.close(current)
            current = inner
        yield current
    finally:
        os.close(current)


def main(arguments: list[str]) -> int:
    """Return exit code 0 if the artifact no longer exists, 1 if it does, 2 for wrong usage."""
    match arguments:
        case [base, checkpoint_id]:
            version = ""
        case [base, checkpoint_id, version] if version:
            pass
        case _:
            sys.stderr.write(f"{USAGE}\n")
            return 2
    try:
        found = remove(Path(base), checkpoint_id, version)
    except (BadIdError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    what = f"{base}/{checkpoint_id}" + (f"/versions/{version}" if version else "")
    sys.stdout.write(f"{'removed' if found else 'nothing there:'} {what}\n")
    return 0
