"""The answers of ``snapshotctl why`` for people and for programs."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import click

from contract.remedies.registry import NOTHING
from snapshotctl.explain.answers import Answer, Finding, Outcome, Stage
from snapshotctl.view.listing import as_document
from snapshotctl.view.time_line import bars

WIDTH: Final = 100
_LABEL: Final = 14
_HEADLINES: Final = {
    Outcome.RESTORED: ("was restored", "green"),
    Outcome.RESTORES: ("restores", "green"),
    Outcome.PARKED: ("is restored and stopped until it is woken", "yellow"),
    Outcome.WAITS: ("waits for its checkpoint", "yellow"),
    Outcome.COLD: ("starts cold", "red"),
    Outcome.REFUSED: ("is refused, as it must not start cold", "red"),
}
_TITLES: Final = {Stage.RESTORE: "container", Stage.CHECKPOINT: "checkpoint", Stage.GRAPH: "graph"}
"""Stages whose findings are about something with a name."""


def rendered(answers: Sequence[Answer], notes: Sequence[str], form: str) -> str:
    """Write ``{"answers": [...], "notes": [...]}`` as JSON or YAML."""
    return as_document({"answers": [answer.as_json() for answer in answers], "notes": list(notes)}, form)


def as_text(answers: Iterable[Answer], notes: Iterable[str]) -> str:
    """Write one paragraph for each pod."""
    parts = ["".join(_paragraph(answer)) for answer in answers]
    general = "".join(_lines("note", note) for note in notes)
    return "\n".join([*parts, general] if general else parts)


def _paragraph(answer: Answer) -> Iterator[str]:
    words, colour = _HEADLINES[answer.outcome]
    because = "" if answer.outcome == Outcome.RESTORED else f": {click.style(answer.code, fg=colour, bold=True)}"
    yield f"{answer.object} in {answer.namespace} {words}{because}\n"
    advised = False
    for found in answer.findings:
        deciding = found.code == answer.code and not advised
        yield from _finding(found, deciding=deciding)
        advised = advised or deciding
    for found in answer.also_refused:
        yield _lines("then also", f"{found.code}: {found.message}")
    for note in answer.notes:
        yield _lines("note", note)


def _finding(found: Finding, *, deciding: bool) -> Iterator[str]:
    """Write stage, code and words; what to do only if there is something to do and this is what decided."""
    head = f"{found.code}: {found.meaning}" if found.meaning else found.code
    title = _TITLES.get(found.stage)
    yield _lines(title or found.stage.value, f"{found.subject}: {head}" if title and found.subject else head)
    if found.message and found.message.rstrip(".") not in head:
        yield _lines("", found.message)
    if found.engine is not None and str(found.engine):
        yield _lines("  engine", str(found.engine))
    yield from (f"{' ' * (_LABEL + 2)}{bar}\n" for bar in bars(found.steps))
    if found.remedy and found.remedy != NOTHING and (deciding or found.stage in (Stage.CHECKPOINT, Stage.GRAPH)):
        yield _lines("  what to do", found.remedy)
        yield _lines("  read", found.link)


def _lines(label: str, text: str) -> str:
    indent = " " * (_LABEL + 2)
    wrapped = textwrap.wrap(text, WIDTH - len(indent), break_long_words=False, break_on_hyphens=False) or [""]
    first = f"  {label:<{_LABEL}}{wrapped[0]}\n"
    return first + "".join(f"{indent}{line}\n" for line in wrapped[1:])
