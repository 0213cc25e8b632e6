"""What a pod's claims for devices (Dynamic Resource Allocation) mean for its checkpoint.

Admission reads no other object, so it does not look at them; the controller does, before it makes a capture Job.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from contract.api.checkpoint import TargetError, find_targets
from contract.nodes.gpus import NO_TEMPLATES, ClaimTemplates, claim_templates, refused_claim
from kube.claim_templates import read_claim_templates
from kube.errors import KubeError
from kube.resources import RESOURCE_CLAIM_TEMPLATES

if TYPE_CHECKING:
    from kube.api import KubeClient, Object


class ClaimedDevices:
    """Reads what the claims of pods ask for, if that is allowed.

    Args:
        kube: the cluster that is asked; None: the file's objects answer.
        filed: objects of the file; if it holds no template at all, nothing is known.
    """

    def __init__(self, kube: KubeClient | None, filed: Iterable[Object]) -> None:
        self._kube = kube
        found = [obj for obj in filed if obj.get("kind") == RESOURCE_CLAIM_TEMPLATES.kind]
        self._filed = {(str(obj["metadata"].get("namespace")), str(obj["metadata"]["name"])): obj for obj in found}

    async def notes(self, pod: Mapping[str, Any], namespace: str) -> tuple[str, ...]:
        """Say which templates of the targets' claims are missing, could not be read, or ask for what is refused."""
        try:
            targets = [target.container for target in find_targets(pod)]
        except TargetError:
            return ()
        spec = pod.get("spec") or {}
        names = {name for target in targets for name in claim_templates(spec, target)}
        templates = await self._read(names, namespace) if names else NO_TEMPLATES
        unread = tuple(filter(None, (self._unread(name, namespace, templates) for name in sorted(names))))
        refused = (refused_claim(spec, target, templates) for target in targets)
        return unread + tuple(
            f"{RESOURCE_CLAIM_TEMPLATES.kind} {namespace}/{found[0]} {found[1]}" for found in refused if found
        )

    async def _read(self, names: Iterable[str], namespace: str) -> ClaimTemplates:
        if self._kube is None:
            return {name: self._filed.get((namespace, name)) for name in names} if self._filed else NO_TEMPLATES
        try:
            return await read_claim_templates(self._kube, names, namespace)
        except KubeError:
            return NO_TEMPLATES

    def _unread(self, name: str, namespace: str, templates: ClaimTemplates) -> str:
        where = f"{RESOURCE_CLAIM_TEMPLATES.kind} {namespace}/{name}"
        if name not in templates:
            return f"{where} could not be read: whether it exists is not known"
        if templates[name] is None:
            return f"{where} does not exist: without it the pod gets no node, and its checkpoint is not captured"
        return ""
