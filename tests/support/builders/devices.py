"""Claims for devices: a template, and the parts of a pod that refer to it."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]


def claim_template(name: str = "gpus", *requests: Json, namespace: str = "ns") -> Json:
    """Return a ResourceClaimTemplate; without *requests* it asks for one GPU."""
    return {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceClaimTemplate",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"spec": {"devices": {"requests": list(requests or (exactly(),))}}},
    }


def exactly(name: str = "gpu", **fields: Any) -> Json:
    """Return a request for devices of one class."""
    return {"name": name, "exactly": {"deviceClassName": "gpu.nvidia.com"} | fields}


def claiming(name: str = "gpus", template: str = "gpus", **fields: Any) -> tuple[Json, Json]:
    """Return a container's resources with a claim, and the pod's parts that say what it is made from."""
    of_pod = {"resourceClaims": [{"name": name, "resourceClaimTemplateName": template}]}
    return {"claims": [{"name": name} | fields]}, of_pod
