"""How many GPUs a container asks for: more than one needs CUDA's launch wrapper to be checkpointed."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

# nvidia.com/gpu, nvidia.com/gpu.shared, vendor.example/gpu, nvidia.com/mig-1g.10gb.
_GPU: Final = re.compile(r"[^/]+/(gpu(\..+)?|mig-.+)")


def gpu_count(container: Mapping[str, Any]) -> int:
    """GPUs in the container's limits, else in its requests; 0 where it names none or a number that is none."""
    resources = container.get("resources") or {}
    for half in ("limits", "requests"):
        counts = [_whole(n) for name, n in (resources.get(half) or {}).items() if _GPU.fullmatch(str(name))]
        if counts:
            return sum(counts)
    return 0


def _whole(quantity: object) -> int:
    text = str(quantity)
    return int(text) if text.isascii() and text.isdigit() else 0
