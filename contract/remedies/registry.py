"""The types of the registry: each reason of a closed list once, with all that is said about it.

Texts are Markdown of one line. The command line and Events print them as they are, so they keep to code in backticks.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple

REASONS_PAGE: Final = "docs/reasons.md"
CHECKPOINT_PAGE: Final = "docs/checkpoint-reasons.md"
GRAPH_PAGE: Final = "docs/graph-reasons.md"
NOTHING: Final = "Nothing to do."
ANOTHER_VERSION: Final = "=VERSION --overwrite`, with a VERSION that it has not had"
"""How a command ends that captures again; who knows the versions puts one in its place."""


class Origin(NamedTuple):
    """Where a reason comes from; both are the end of a sentence."""

    writer: str
    """Written by ..."""
    seen: str
    """Seen ..."""


@dataclass(frozen=True, slots=True)
class Section:
    """Reasons that a page shows together."""

    page: str
    """Relative to the repository's root."""
    origin: Origin
    """Of its reasons, unless they name another."""
    title: str = ""
    """Empty: the reasons continue what is before them."""
    anchor: str = ""
    """Of a table, to which the links of its reasons lead; empty: each reason has a heading of its own."""
    intro: str = ""
    headings_above: frozenset[str] = frozenset()
    """Reasons that are headings further up: of two equal headings the second gets a number."""


@dataclass(frozen=True, slots=True)
class Reason:
    """A code of a closed list, and what is said about it."""

    section: Section
    code: StrEnum
    meaning: str
    """One sentence, printed beside the code."""
    remedy: str
    """What to do; ``NOTHING`` if that is all."""
    details: str = ""
    """What only the page says."""
    origin: Origin | None = None
    """If another than the section's."""

    @property
    def link(self) -> str:
        """File and anchor, relative to the repository's root."""
        if self.section.anchor:
            return f"{self.section.page}#{self.section.anchor}"
        return f"{self.section.page}#{self.code}{'-1' if self.code in self.section.headings_above else ''}"
