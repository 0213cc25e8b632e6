"""``python -m tests.support.vllm_kit pack GPU_KIT KIT``, and on the GPU machine ``... unpack KIT FOLDER``.

``... model SHAPE FOLDER`` makes another model there; the shapes are ``small`` and ``large``.
"""

import subprocess
import sys
from pathlib import Path


def main(verb: str, source: str, target: Path) -> None:
    """Run one of the halves; each imports what only its own machine has."""
    if verb == "pack":
        from tests.support.vllm_kit.pack import pack  # noqa: PLC0415

        for name, size in pack(Path(source), target).items():
            print(f"{target / name}: {size / 1e6:.1f} MB")
    elif verb == "unpack":
        from tests.support.vllm_kit.unpack import unpack  # noqa: PLC0415

        unpack(Path(source), target)
    elif verb == "model":
        from tests.support.vllm_kit.model import SHAPES, make_model  # noqa: PLC0415

        make_model(target, SHAPES[source])
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    try:
        main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
    except (OSError, ValueError, subprocess.CalledProcessError) as error:
        sys.exit(f"error: {error}")
