"""One kind of state of a worker, and what becomes of it.

Each names a test that shows it, so the list says no more than was seen.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from contract.api.states import Admission, AgentReason


class Fate(StrEnum):
    """What becomes of it."""

    KEPT = "kept"
    RENEWED = "renewed"
    RESET = "reset"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of state."""

    what: str
    fate: Fate
    how: str
    """Kept: what stays different. Renewed, reset: how the worker learns of it. Refused: when it is seen."""
    test: str
    """File and function, relative to the repository's root."""
    reason: AgentReason | Admission | None = None
    """Of a refusal."""
