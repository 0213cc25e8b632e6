"""What a worker's memory takes on its node."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes of all processes of a container."""

    resident: int = 0
    """Pages that are there; one that several processes map counts for each of them (Rss)."""
    share: int = 0
    """The same, but a page that n processes of the node map counts for an n-th (Pss): these add up."""


NONE: Final = Memory()
"""Nothing is known of it."""
