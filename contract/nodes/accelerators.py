"""Accelerators whose state is not captured, by the names under which pods ask for them: a closed table.

They are counted as GPUs are, so that the worker among a pod's containers is found, and then refused by name: before a
pod is shaped, before a Job is made. Names and classes are those of the vendors' device plugins and of their drivers
for Dynamic Resource Allocation.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, Final, NamedTuple


class Accelerator(NamedTuple):
    """One kind of device, why it is refused, and what else can be done."""

    device: str
    resources: re.Pattern[str]
    """Matches the whole name of a resource."""
    classes: frozenset[str]
    """Names of device classes."""
    why: str
    remedy: str

    @property
    def words(self) -> str:
        """What is said after the name that the pod asks for."""
        return f"{self.device} are not captured: {self.why}; {self.remedy}"


def _other_vendor(device: str, resources: str, *classes: str) -> Accelerator:
    return Accelerator(
        device,
        re.compile(resources),
        frozenset(classes),
        "only NVIDIA's driver moves device state into a process, and CRIU cannot dump an open device",
        "take the opt-in off, or run the worker on NVIDIA GPUs (nvidia.com/gpu)",
    )


OF_CLASS: Final = "deviceclass.resource.kubernetes.io/"
"""Kubernetes' own prefix of a resource name by which a pod asks for a device of a class, without a claim."""
UNSUPPORTED: Final = (
    Accelerator(
        "MIG devices",
        re.compile(r"nvidia\.com/mig-.+"),
        frozenset({"mig.nvidia.com"}),
        "NVIDIA's driver does not checkpoint them (NVIDIA/cuda-checkpoint#42)",
        "take the opt-in off, or request a whole GPU (nvidia.com/gpu)",
    ),
    # A partitioned MI300 is advertised by its compute and memory mode: amd.com/cpx_nps4.
    _other_vendor("AMD GPUs", r"amd\.com/(gpu|[sdtqc]px_nps[0-9]+)", "gpu.amd.com"),
    _other_vendor("Intel GPUs", r"gpu\.intel\.com/.+", "gpu.intel.com"),
    _other_vendor("Intel Gaudi", r"habana\.ai/gaudi.*", "gaudi.intel.com"),
    _other_vendor("AWS Neuron devices", r"aws\.amazon\.com/neuron.*", "neuron.aws.com"),
    _other_vendor("Google TPUs", r"google\.com/tpu|cloud-tpus\.google\.com/.+", "tpu.google.com"),
    _other_vendor("Huawei Ascend", r"huawei\.com/[Aa]scend.*"),
)


@lru_cache(maxsize=256)  # asked for each pod at admission, and a cluster has few names
def named_by_resource(name: str) -> Accelerator | None:
    """Return the device that a resource name is for; None if it is none of the table."""
    if "/" not in name:
        return None
    if name.startswith(OF_CLASS):
        return named_by_class(name.removeprefix(OF_CLASS))
    return next((each for each in UNSUPPORTED if each.resources.fullmatch(name)), None)


def named_by_class(name: str) -> Accelerator | None:
    """Return the device that a device class is for; None if it is none of the table."""
    return next((each for each in UNSUPPORTED if name in each.classes), None)


def refused_resource(container: Mapping[str, Any]) -> tuple[str, str] | None:
    """Say which resource of a container is refused: the field below the container, and why."""
    resources = container.get("resources") or {}
    for half in ("limits", "requests"):
        for name, quantity in (resources.get(half) or {}).items():
            found = named_by_resource(str(name))
            if found is not None and str(quantity) != "0":
                return f"resources.{half}[{name}]", found.words
    return None


def refused_class(names: Iterable[str]) -> tuple[str, str] | None:
    """Say which of these device classes is refused, and why."""
    found = ((name, named_by_class(name)) for name in names)
    return next(((name, each.words) for name, each in found if each is not None), None)
