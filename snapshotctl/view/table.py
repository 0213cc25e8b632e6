"""Columns, ages and sizes as kubectl writes them: narrow, aligned, no lines, good for eyes and for awk."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Final

import click

from contract.api.times import parse_time

GAP: Final = 3
_UNITS: Final = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
_STEP: Final = 1024
_EXACT_BELOW: Final = 10
_AGES: Final = ((86400 * 365, "y"), (86400, "d"), (3600, "h"), (60, "m"))
_AT_LEAST: Final = 2
"""Of a unit: below that the next smaller one says more, 90m in place of 1h."""
COLOURS: Final[Mapping[str, str]] = {
    "Ready": "green",
    "ok": "green",
    "restored": "green",
    "restores": "green",
    "Creating": "yellow",
    "Pending": "yellow",
    "waits": "yellow",
    "warning": "yellow",
    "unknown": "yellow",
    "Failed": "red",
    "starts-cold": "red",
    "refused": "red",
    "failing": "red",
}
"""Words that a terminal shows in colour; elsewhere nothing is coloured."""


def columns(headers: Sequence[str], rows: Iterable[Sequence[str]], widths: Sequence[int] = ()) -> list[str]:
    """Return the lines of a table.

    Args:
        headers: of the columns.
        rows: their cells.
        widths: at least so wide, so that later lines fit below earlier ones.
    """
    table = [list(headers), *(list(row) for row in rows)]
    found = measured(table, widths)
    return [_line(row, found) for row in table]


def measured(rows: Iterable[Sequence[str]], widths: Sequence[int] = ()) -> list[int]:
    """Width of each column."""
    found = list(widths)
    for row in rows:
        found += [0] * (len(row) - len(found))
        found = [max(width, len(cell)) for width, cell in zip(found, [*row, *[""] * len(found)], strict=False)]
    return found


def line(row: Sequence[str], widths: Sequence[int]) -> str:
    """Return one more line for a table of these widths."""
    return _line(row, measured([row], widths))


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    cells = [f"{coloured(cell)}{' ' * (width - len(cell) + GAP)}" for cell, width in zip(row, widths, strict=False)]
    return "".join(cells).rstrip()


def coloured(word: str) -> str:
    """Colour the word if it has a colour; click takes colours away off a terminal."""
    return click.style(word, fg=COLOURS[word]) if word in COLOURS else word


def age(since: object, now: datetime) -> str:
    """Time since a moment as the API writes it: ``12s``, ``5m``, ``3h``, ``2d``; empty if there is none."""
    try:
        seconds = max(0, int((now - parse_time(str(since))).total_seconds()))
    except ValueError:
        return ""
    for unit, letter in _AGES:
        if seconds >= _AT_LEAST * unit:
            return f"{seconds // unit}{letter}"
    return f"{seconds}s"


def size(number: object) -> str:
    """Return bytes in the largest unit that leaves a number of at least one: ``1.2 GiB``; empty if there is none."""
    if not isinstance(number, int) or isinstance(number, bool):
        return ""
    amount, unit = float(number), 0
    while amount >= _STEP and unit < len(_UNITS) - 1:
        amount, unit = amount / _STEP, unit + 1
    text = f"{amount:.1f}" if unit and amount < _EXACT_BELOW else f"{amount:.0f}"
    return f"{text} {_UNITS[unit]}"
