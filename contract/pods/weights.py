"""Whether a capture leaves device memory to the files of its worker's model: as the pod's owner says, or the chart."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from contract.api import keys
from contract.api.checkpoint import annotations_of

if TYPE_CHECKING:
    from collections.abc import Mapping

_WORDS: Final = {"referenced": True, "stored": False}


class WeightsError(ValueError):
    """The annotation says something that is not known."""


def refers_to_weights(pod: Mapping[str, Any]) -> bool | None:
    """Return what a pod, or its template, says; None: nothing, so the chart's ``capture.weights`` counts.

    Raises:
        WeightsError: the annotation is none of its two words.
    """
    said = annotations_of(pod).get(keys.ANN_WEIGHTS)
    if said is None:
        return None
    if said not in _WORDS:
        raise WeightsError(f"is {said[:40]!r}; set it to {' or '.join(_WORDS)}, or remove it")
    return _WORDS[said]
