"""One target in one process, which the engine takes over and ends: ``python -m fuzz.engine TARGET ...``."""

from __future__ import annotations

import sys
from typing import Final

import atheris  # type: ignore[import-untyped] # only in the environment that ``make fuzz`` makes

OURS: Final = ["contract", "webhook", "controller", "certs", "agent", "snapshotctl", "snapshot_sdk"]
"""Whose branches are counted as coverage."""
BY_STRUCTURE: Final = ("admission", "decision")
"""Targets that read JSON objects of many fields."""


def main() -> None:
    """Fuzz until the engine has had enough; its options follow the name of the target."""
    name, *options = sys.argv[1:]
    with atheris.instrument_imports(include=OURS):
        from fuzz.mutate import mutate  # noqa: PLC0415 - instrumented while they are imported
        from fuzz.targets import TARGETS  # noqa: PLC0415 - see above
    if name in BY_STRUCTURE:
        atheris.Setup([name, *options], TARGETS[name], custom_mutator=mutate)
    else:
        atheris.Setup([name, *options], TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
