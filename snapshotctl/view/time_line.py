"""The time line of a restore or capture as a bar picture: each step where it began, as long as it took."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from contract.api.reports import Step

_WIDTH: Final = 40
"""Cells for the whole time."""
_NAME: Final = 15
_SHORT: Final = "▏"
"""A step of less than half a cell."""


def bars(steps: Sequence[Step]) -> list[str]:
    """Return a line for each step: name, bar, seconds since the claim, seconds it took."""
    end = max((step.start + step.seconds for step in steps), default=0.0)
    return [
        f"{step.phase:<{_NAME}}|{_bar(step, end):<{_WIDTH}}| {step.seconds:8.3f} s from {step.start:.3f} s"
        for step in steps
        if end
    ]


def _bar(step: Step, end: float) -> str:
    first = min(_WIDTH - 1, int(_WIDTH * step.start / end))
    cells = min(_WIDTH - first, round(_WIDTH * step.seconds / end))
    return " " * first + ("█" * cells or _SHORT)
