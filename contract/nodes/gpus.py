"""How many GPUs a container asks for: a capture sets another environment for one with several.

They are asked for by resource name, or by claims for devices (Dynamic Resource Allocation, ``resource.k8s.io/v1``).
How many a claim asks for is said by its template, an object of the pod's namespace, so it is passed in.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from contract.nodes.accelerators import named_by_class, named_by_resource, refused_class

ClaimTemplates = Mapping[str, Mapping[str, Any] | None]
"""ResourceClaimTemplates of a namespace by name: None does not exist; one that is absent could not be read."""

NO_TEMPLATES: Final[ClaimTemplates] = {}
"""Nothing could be read, or nothing had to be."""
DEVICE_CLASS: Final = "gpu.nvidia.com"
"""The class of NVIDIA's driver whose devices are whole GPUs."""
_ALL: Final = 2
"""What a request for all matching devices of a node counts as: their number is not known, but may be more than one."""
# nvidia.com/gpu, nvidia.com/gpu.shared (time slices and MPS), vendor.example/gpu, nvidia.com/mig-1g.10gb.
_GPU: Final = re.compile(r"[^/]+/(gpu(\..+)?|mig-.+)")


def gpu_count(container: Mapping[str, Any]) -> int:
    """GPUs in the container's limits, else in its requests; 0 where it names none or a number that is none."""
    resources = container.get("resources") or {}
    for half in ("limits", "requests"):
        counts = [_whole(n) for name, n in (resources.get(half) or {}).items() if _is_device(str(name))]
        if counts:
            return sum(counts)
    return 0


def _is_device(name: str) -> bool:
    return bool(_GPU.fullmatch(name)) or named_by_resource(name) is not None


def total_gpus(spec: Mapping[str, Any], container: Mapping[str, Any], templates: ClaimTemplates) -> int:
    """Count the GPUs of a container, by resource name and by claims; what could not be read counts as none."""
    return gpu_count(container) + sum(
        _requested(templates.get(template) or {}, request) for template, request in _claims(spec, container)
    )


def claim_templates(spec: Mapping[str, Any], container: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of the ResourceClaimTemplates that the container's claims are made from."""
    return tuple(dict.fromkeys(template for template, _ in _claims(spec, container)))


def refused_claim(
    spec: Mapping[str, Any], container: Mapping[str, Any], templates: ClaimTemplates
) -> tuple[str, str] | None:
    """Say which template of the container's claims asks for devices that are refused, and why.

    One alternative of a request is enough: it may be the one that is allocated.
    """
    for template, wanted in _claims(spec, container):
        for request in _requests(templates.get(template) or {}, wanted):
            classes = [str(each.get("deviceClassName")) for each in _alternatives(request)]
            if (refused := refused_class(classes)) is not None:
                return template, f"asks for devices of class {refused[0]}: {refused[1]}"
    return None


def _claims(spec: Mapping[str, Any], container: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the template of each claim of the container, and which of its requests is meant; empty: all of them."""
    of_pod = {claim.get("name"): claim.get("resourceClaimTemplateName") for claim in spec.get("resourceClaims") or ()}
    claims = (container.get("resources") or {}).get("claims") or ()
    found = [(of_pod.get(claim.get("name")), str(claim.get("request") or "")) for claim in claims]
    return [(str(template), request) for template, request in found if template]


def _requested(template: Mapping[str, Any], wanted: str) -> int:
    """Count the GPUs of a template's requests; of alternatives, whichever is allocated, the most."""
    return sum(max(map(_count, _alternatives(request)), default=0) for request in _requests(template, wanted))


def _requests(template: Mapping[str, Any], wanted: str) -> list[Mapping[str, Any]]:
    devices = ((template.get("spec") or {}).get("spec") or {}).get("devices") or {}
    return [each for each in devices.get("requests") or () if wanted in ("", each.get("name"))]


def _alternatives(request: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return request.get("firstAvailable") or [request.get("exactly") or {}]


def _count(devices: Mapping[str, Any]) -> int:
    name = str(devices.get("deviceClassName"))
    if name != DEVICE_CLASS and named_by_class(name) is None:
        return 0
    return _ALL if devices.get("allocationMode") == "All" else max(1, _whole(devices.get("count") or 1))


def _whole(quantity: object) -> int:
    text = str(quantity)
    return int(text) if text.isascii() and text.isdigit() else 0
