"""The steps that our Dockerfiles run inside their build stages, with Python's standard library only.

Usage: ``python3 -m images.dockerfile criu OUT``, or ``... tools OUT [ENTRYPOINT_JSON CMD_JSON]``.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from images.errors import ImageError
from images.native import add_criu_helpers, bundle_criu, tool_folder

_NATIVE = Path("native")


def main(words: Sequence[str]) -> None:
    """Do the one step that the words name."""
    match words:
        case ["criu", out]:
            bundle_criu(Path("/"), Path(out))
            add_criu_helpers(_NATIVE, Path(out))
        case ["tools", out]:
            tool_folder(_NATIVE, Path(out), None, None)
        case ["tools", out, entrypoint, cmd]:
            # `docker inspect` says null if an image has none; an image's record is then empty, not missing.
            tool_folder(_NATIVE, Path(out), json.loads(entrypoint) or [], json.loads(cmd) or [])
        case _:
            raise ImageError(__doc__ or "")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except ImageError as e:
        sys.exit(f"error: {e}")
