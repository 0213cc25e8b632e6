"""Which workers keep their device memory outside the image: those with GPUs, if owner and chart do not say no."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from contract.api import keys
from contract.api.checkpoint import annotations_of

if TYPE_CHECKING:
    from collections.abc import Mapping

OUTSIDE: Final = "outside"
IMAGE: Final = "image"


class DeviceMemoryError(ValueError):
    """The annotation says something that is not known."""


def device_memory_library(template: Mapping[str, Any], gpus: int, default: str) -> str | None:
    """Return the path of the library for the worker; None: its device memory goes through the image.

    Args:
        template: of the pod that is captured.
        gpus: how many its target asks for.
        default: the chart's ``capture.deviceMemory``.

    Raises:
        DeviceMemoryError: the annotation is none of its two words.
    """
    said = annotations_of(template).get(keys.ANN_DEVICE_MEMORY, default.lower())
    if said not in (OUTSIDE, IMAGE):
        raise DeviceMemoryError(f"is {said[:40]!r}; set it to {OUTSIDE} or {IMAGE}, or remove it")
    return keys.DEVICE_MEMORY_LIBRARY if said == OUTSIDE and gpus > 0 else None
