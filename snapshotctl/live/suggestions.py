"""What a name that does not exist may have meant."""

from __future__ import annotations

import difflib

from kube.api import KubeClient
from kube.errors import KubeError
from kube.resources import Resource


async def not_found(kube: KubeClient, resource: Resource, name: str, namespace: str) -> str:
    """Say that there is no such object, and which one may have been meant."""
    words = f"no {resource.kind} {name} in namespace {namespace}"
    try:
        others = [str(obj["metadata"]["name"]) for obj in (await kube.list(resource, namespace)).items]
    except KubeError:
        return words
    near = difflib.get_close_matches(name, others, n=3) or [each for each in others if each.startswith(name)][:3]
    if near:
        return f"{words}; did you mean {' or '.join(near)}?"
    return f"{words}; is it another namespace? choose one with -n"
