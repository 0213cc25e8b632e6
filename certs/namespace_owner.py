"""Makes the release's namespace the owner of the webhook configuration: deleting the one deletes the other.

Helm's record of a release is in its namespace, so nothing else would ever remove the configuration afterwards, and
API servers would keep calling a webhook that no longer exists.
"""

import logging
from typing import Final

from kube.api import KubeClient, Object
from kube.errors import KubeError
from kube.resources import MUTATING_WEBHOOK_CONFIGURATIONS, NAMESPACES

FIELD_MANAGER: Final = "snapshot-controller"

logger = logging.getLogger(__name__)


async def own_by_namespace(kube: KubeClient, configuration: str, namespace: str) -> None:
    """Make *namespace* an owner of the webhook configuration, if it is none yet.

    That it cannot is no reason to stop: some clusters let only those change owners who may delete the object.
    """
    try:
        found = await kube.get(MUTATING_WEBHOOK_CONFIGURATIONS, configuration)
        owners = found["metadata"].get("ownerReferences") or []
        if any(_is(owner, namespace) for owner in owners):
            return
        home = await kube.get(NAMESPACES, namespace)
        metadata = {"resourceVersion": found["metadata"]["resourceVersion"], "ownerReferences": [*owners, _owner(home)]}
        await kube.patch(
            MUTATING_WEBHOOK_CONFIGURATIONS, configuration, {"metadata": metadata}, field_manager=FIELD_MANAGER
        )
    except KubeError as error:
        logger.info("the webhook configuration stays if the namespace is deleted before the release: %s", error)


def _is(owner: Object, namespace: str) -> bool:
    return (owner.get("kind"), owner.get("name")) == (NAMESPACES.kind, namespace)


def _owner(namespace: Object) -> Object:
    metadata = namespace["metadata"]
    return {
        "apiVersion": NAMESPACES.api_version,
        "kind": NAMESPACES.kind,
        "name": metadata["name"],
        "uid": metadata["uid"],
    }
