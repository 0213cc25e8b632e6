"""How many GPUs a container asks for: a capture sets another environment for one with several.

They are asked for by resource name, or by claims for devices (Dynamic Resource Allocation, ``resource.k8s.io/v1``).
How many a claim asks for is said by its template, an object of the pod's namespace, so it is passed in.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

ClaimTemplates = Mapping[str, Mapping[str, Any] | None]
"""ResourceClaimTemplates of a namespace by name: None does not exist; one that is absent could not be read."""

NO_TEMPLATES: Final[ClaimTemplates] = {}
"""Nothing could be read, or nothing had to be."""
DEVICE_CLASSES: Final = frozenset({"gpu.nvidia.com", "mig.nvidia.com"})
"""Classes of NVIDIA's driver whose devices hold device state."""
_ALL: Final = 2
"""What a request for all matching devices of a node counts as: their number is not known, but may be more than one."""
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


def total_gpus(spec: Mapping[str, Any], container: Mapping[str, Any], templates: ClaimTemplates) -> int:
    """Count the GPUs of a container, by resource name and by claims; what could not be read counts as none."""
    return gpu_count(container) + sum(
        _requested(templates.get(template) or {}, request) for template, request in _claims(spec, container)
    )


def claim_templates(spec: Mapping[str, Any], container: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of the ResourceClaimTemplates that the container's claims are made from."""
    return tuple(dict.fromkeys(template for template, _ in _claims(spec, container)))


def _claims(spec: Mapping[str, Any], container: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the template of each claim of the container, and which of its requests is meant; empty: all of them."""
    of_pod = {claim.get("name"): claim.get("resourceClaimTemplateName") for claim in spec.get("resourceClaims") or ()}
    claims = (container.get("resources") or {}).get("claims") or ()
    found = [(of_pod.get(claim.get("name")), str(claim.get("request") or "")) for claim in claims]
    return [(str(template), request) for template, request in found if template]


def _requested(template: Mapping[str, Any], request: str) -> int:
    devices = ((template.get("spec") or {}).get("spec") or {}).get("devices") or {}
    return sum(_most(each) for each in devices.get("requests") or () if request in ("", each.get("name")))


def _most(request: Mapping[str, Any]) -> int:
    """Count the GPUs of one request; of alternatives, whichever is allocated, the most."""
    return max(map(_count, request.get("firstAvailable") or [request.get("exactly") or {}]), default=0)


def _count(devices: Mapping[str, Any]) -> int:
    if devices.get("deviceClassName") not in DEVICE_CLASSES:
        return 0
    return _ALL if devices.get("allocationMode") == "All" else max(1, _whole(devices.get("count") or 1))


def _whole(quantity: object) -> int:
    text = str(quantity)
    return int(text) if text.isascii() and text.isdigit() else 0
