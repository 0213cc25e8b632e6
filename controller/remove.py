"""Removes one artifact with all its versions: ``python3 -m controller.remove BASE ID``, what a cleanup Job runs."""

import shutil
import sys
from pathlib import Path
from typing import Final

from contract.storage import BadIdError, check_id

USAGE: Final = "usage: python3 -m controller.remove BASE ID"
ARGUMENTS: Final = 2


def remove(base: Path, checkpoint_id: str) -> bool:
    """Remove ``<base>/<id>``; False where there is none.

    Nothing outside is touched, whatever lies there: the walk goes by directory descriptors and follows no link.

    Raises:
        BadIdError: *checkpoint_id* cannot be part of a path.
        OSError: something could not be removed, or a link stands in the artifact's place.
    """
    target = base / check_id(checkpoint_id)
    try:
        shutil.rmtree(target)
    except FileNotFoundError:
        return False
    return True


def main(arguments: list[str]) -> int:
    """Exit code 0 when the artifact is gone, 1 when it is not, 2 for wrong usage."""
    if len(arguments) != ARGUMENTS:
        sys.stderr.write(f"{USAGE}\n")
        return 2
    base, checkpoint_id = arguments
    try:
        found = remove(Path(base), checkpoint_id)
    except (BadIdError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    sys.stdout.write(f"{'removed' if found else 'nothing there:'} {base}/{checkpoint_id}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
