"""``python -m agent.seccomp SOURCE TARGET``: puts the seccomp profile where kubelet looks for it.

The agent's init container. A container whose profile is missing or half-written never starts, and nothing falls back,
so the file appears whole or not at all.
"""

import os
import sys
import tempfile
from pathlib import Path
from typing import Final

MODE: Final = 0o644
"""Kubelet and the runtime read it; only root writes it."""
USAGE: Final = 2


def place(source: Path, target: Path) -> bool:
    """Copy *source* to *target*, making its folders; False if it is there already.

    Raises:
        OSError: *source* cannot be read or *target* not be written.
    """
    wanted = source.read_bytes()
    if target.is_file() and target.read_bytes() == wanted:
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    with os.fdopen(descriptor, "wb") as staged:
        staged.write(wanted)
        os.fchmod(staged.fileno(), MODE)
        os.fsync(staged.fileno())
    Path(name).rename(target)
    return True


def _main(arguments: list[str]) -> int:
    if len(arguments) != 2:  # noqa: PLR2004 - the two of the usage line
        print("usage: python -m agent.seccomp SOURCE TARGET", file=sys.stderr)  # noqa: T201
        return USAGE
    source, target = map(Path, arguments)
    try:
        placed = place(source, target)
    except OSError as error:
        print(f"error: the seccomp profile was not placed: {error}", file=sys.stderr)  # noqa: T201
        return 1
    print(f"{target}: {'placed' if placed else 'in place already'}")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1:]))
