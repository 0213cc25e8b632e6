"""From a pod up to what people deployed: Deployment, StatefulSet, a LeaderWorkerSet, or just the pod.

Only kinds that we may read are climbed through; the first that we may not, or that was deleted, is taken for the top.
"""

import logging
from collections.abc import Callable
from typing import Final

from contract.api.checkpoint import controller_of
from controller.workloads.auto_checkpoint import Workload
from kube.api import KubeClient, Object
from kube.errors import ForbiddenError, NotFoundError
from kube.resources import DEPLOYMENTS, JOBS, PODS, REPLICA_SETS, STATEFUL_SETS, Resource
from kube.store import key_of

HIGHEST: Final = 8
"""Steps: pod, StatefulSet, leader pod, StatefulSet, LeaderWorkerSet and what owns that are six."""
KNOWN: Final = {
    (resource.api_version.partition("/")[0], resource.kind): resource
    for resource in (REPLICA_SETS, DEPLOYMENTS, STATEFUL_SETS, JOBS, PODS)
}
_BY_KIND: Final = {resource.kind: resource for resource in KNOWN.values() if resource != PODS}
Fits = Callable[[Object], bool]
logger = logging.getLogger(__name__)


class Owners:
    """Finds where pods come from."""

    def __init__(self, kube: KubeClient) -> None:
        self._kube = kube

    async def workload_of(self, pod: Object, fits: Fits) -> Workload | None:
        """Return where *pod* comes from; None if it was deleted before its template was known.

        Args:
            pod: the pod.
            fits: whether a template is the one that the pod's stamp was made of.

        Raises:
            KubeError: a call failed.
        """
        namespace = key_of(pod)[0]
        owner = controller_of(pod)
        first = await self._read(owner, namespace) if owner else None
        top = await self._top(pod, owner, first)
        # The other kinds' templates may have changed since, or lack what the pod mounts: there the pod itself says it.
        template = first if first is not None and first["kind"] == REPLICA_SETS.kind else None
        if template is not None and fits(template["spec"]["template"]):
            return Workload(top, template)
        # Another webhook may have changed the pod before ours saw it, its image for example.
        whole = await self.whole(pod)
        if template is not None and not (whole and fits(whole)):
            return Workload(top, template)
        return Workload(top, whole) if whole else None

    async def exists(self, top: str, namespace: str) -> bool:
        """Say whether a workload is there; of kinds that we may not read it is taken for granted.

        Args:
            top: ``<kind>/<name>``, as ``Workload.top``; a pod without an owner is not looked for: its kin name it.
            namespace: where it would be.

        Raises:
            KubeError: a call failed.
        """
        kind, _, name = top.partition("/")
        resource = _BY_KIND.get(kind)
        if resource is None:
            return kind != PODS.kind
        try:
            found = await self._kube.get(resource, name, namespace)
        except NotFoundError:
            return False
        except ForbiddenError:
            return True
        return not found["metadata"].get("deletionTimestamp")

    async def direct(self, pod: Object) -> Object | None:
        """Return what owns *pod*; None if nothing does that we may read.

        Raises:
            KubeError: a call failed.
        """
        owner = controller_of(pod)
        return await self._read(owner, key_of(pod)[0]) if owner else None

    async def whole(self, pod: Object) -> Object | None:
        """Return *pod* with all that is stored of it; None if it was deleted, or another has its name.

        Raises:
            KubeError: a call failed.
        """
        namespace, name = key_of(pod)
        try:
            whole = await self._kube.get(PODS, name, namespace)
        except NotFoundError:
            return None
        same = whole["metadata"].get("uid") == pod["metadata"].get("uid")
        return {"apiVersion": PODS.api_version, "kind": PODS.kind, **whole} if same else None

    async def _top(self, pod: Object, owner: Object | None, found: Object | None) -> str:
        top = _own_name(pod)
        namespace = key_of(pod)[0]
        for _ in range(HIGHEST):
            if owner is None:
                break
            top = f"{owner['kind']}/{owner['name']}"
            if found is None:
                break
            owner = controller_of(found)
            found = await self._read(owner, namespace) if owner else None
        return top

    async def _read(self, owner: Object, namespace: str) -> Object | None:
        resource = _resource(owner)
        if resource is None:
            return None
        try:
            found = await self._kube.get(resource, owner["name"], namespace)
        except (NotFoundError, ForbiddenError) as error:
            logger.info("owner not read: %s", error)
            return None
        found.setdefault("kind", resource.kind)
        return found if found["metadata"].get("uid") == owner.get("uid") else None


def _resource(owner: Object) -> Resource | None:
    group = str(owner.get("apiVersion", "")).partition("/")[0]
    return KNOWN.get((group, str(owner.get("kind", ""))))


def _own_name(pod: Object) -> str:
    """Return a pod without owner as a workload; pods of one generated name share its beginning and are one."""
    metadata = pod["metadata"]
    return f"{PODS.kind}/{str(metadata.get('generateName') or metadata['name']).rstrip('-')}"
