"""``python -m tests.support.cluster_kit pack KIT``, and on the GPU machine ``... unpack KIT FOLDER``.

The kit is the embedded cluster for a machine that reaches no registry: its programs, the images, the container toolkit
and the packages that its runner needs. It is one archive in pieces, which may be brought one after the other.
"""

import subprocess
import sys
from pathlib import Path


def main(verb: str, kit: Path, *target: Path) -> None:
    """Run one of the halves; each imports what only its own machine has."""
    match verb, target:
        case "pack", ():
            from tests.support.cluster_kit.pack import pack  # noqa: PLC0415

            for piece in pack(kit):
                print(f"{piece}: {piece.stat().st_size / 1e6:.1f} MB")
        case "unpack", (folder,):
            from tests.support.cluster_kit.unpack import unpack  # noqa: PLC0415

            unpack(kit, folder)
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    try:
        main(sys.argv[1], *map(Path, sys.argv[2:]))
    except (OSError, ValueError, subprocess.CalledProcessError) as error:
        sys.exit(f"error: {error}")
