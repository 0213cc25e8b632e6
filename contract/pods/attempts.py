"""How often a restore is tried before the container starts cold: the chart says it, a pod may say otherwise."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from contract.api import keys
from contract.api.checkpoint import annotations_of
from contract.api.states import PASSING

_NUMBER: Final = re.compile(rf"[1-{keys.MAX_ATTEMPTS}]")


class AttemptsError(ValueError):
    """The annotation is no number of attempts that may be asked for."""


def attempts_of(pod: Mapping[str, Any], usual: int) -> int:
    """Return how often a restore into *pod* may be tried; *usual* if it does not say.

    Raises:
        AttemptsError: what it says is not a number within the bounds.
    """
    said = annotations_of(pod).get(keys.ANN_ATTEMPTS)
    if said is None:
        return usual
    if not _NUMBER.fullmatch(said):
        raise AttemptsError(
            f"annotation {keys.ANN_ATTEMPTS} is {said[:40]!r}; it must be a number from 1 to {keys.MAX_ATTEMPTS}, so "
            f"{usual} of the chart value config.restore.attempts is taken; correct it in the pod template"
        )
    return int(said)


def tries_again(reason: str, *, clean: bool, made: int, attempts: int) -> bool:
    """Say whether a restore that failed is tried once more.

    Args:
        reason: why it failed.
        clean: whether all that it did was undone.
        made: attempts so far, this one included.
        attempts: how many there may be.
    """
    return clean and made < attempts and reason in PASSING
