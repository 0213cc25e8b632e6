"""Options and messages that the offline verbs share."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

import click

if TYPE_CHECKING:
    from contract.config.values import Values

EXIT_UNREADABLE: Final = 2

_FILE: Final = click.Path(dir_okay=False, path_type=Path)
objects_option: Final = click.option(
    "--objects",
    "-f",
    type=_FILE,
    required=True,
    help="What the cluster holds, status included: a YAML or JSON stream, lists too.",
)
values_option: Final = click.option("--values", type=_FILE, help="The chart's values. Without: the chart's defaults.")


def unreadable(message: str) -> NoReturn:
    """End with the exit status for input that cannot be read."""
    click.echo(f"error: {message}", err=True)
    sys.exit(EXIT_UNREADABLE)


def objects_of(path: Path) -> list[dict[str, Any]]:
    """The objects of a file; ends the command where it cannot be read."""
    from snapshotctl.offline.objects import InputError, read_objects  # noqa: PLC0415 - see the group: --help imports nothing

    try:
        return read_objects(_text(path), str(path))
    except InputError as error:
        unreadable(str(error))


def manifests_of(path: Path) -> list[dict[str, Any]]:
    """The objects of a file that are not in a cluster yet; ends the command where it cannot be read."""
    from snapshotctl.offline.objects import InputError, read_manifests  # noqa: PLC0415 - as above

    try:
        return read_manifests(_text(path), str(path))
    except InputError as error:
        unreadable(str(error))


def values_of(path: Path | None) -> Values:
    """The chart's values; ends the command where they cannot be read."""
    from contract.config.values import ValuesError, load_values  # noqa: PLC0415 - as above

    try:
        return load_values(_text(path) if path else "")
    except ValuesError as error:
        unreadable(f"{path}: {error}")


def _text(path: Path) -> str:
    try:
        return sys.stdin.read() if str(path) == "-" else path.read_text(encoding="utf-8")
    except OSError as error:
        unreadable(f"{path}: {error.strerror}")
    except UnicodeDecodeError as error:
        unreadable(f"{path}: not UTF-8 text: {error.reason} at byte {error.start}")
