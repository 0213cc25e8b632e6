"""What a controller decides in one pass: its actions are its own, what becomes of them is the same for all."""

from dataclasses import dataclass
from typing import Generic, TypeVar

from kube.api import Object
from kube.recorder import EventSpec

A = TypeVar("A")


@dataclass(frozen=True, slots=True)
class Plan(Generic[A]):
    """What the next step is."""

    actions: tuple[A, ...] = ()
    status: Object | None = None
    """The whole new status, written after all actions; None: as it is."""
    events: tuple[EventSpec, ...] = ()
    """Recorded only after the status was written."""
    requeue_after: float | None = None
    """Seconds after which to look again although nothing changed; None: changes alone decide."""
