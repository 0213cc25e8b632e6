"""Reading the ResourceClaimTemplates that say how many devices a pod's claims ask for."""

from collections.abc import Iterable

from contract.nodes.gpus import ClaimTemplates
from kube.api import KubeClient, Object
from kube.errors import ForbiddenError, NotFoundError
from kube.resources import RESOURCE_CLAIM_TEMPLATES


async def read_claim_templates(kube: KubeClient, names: Iterable[str], namespace: str) -> ClaimTemplates:
    """Read templates by name; what may not be read, or is of a kind that the server does not know, is left out.

    Raises:
        KubeError: the server does not answer.
    """
    found: dict[str, Object | None] = {}
    for name in names:
        try:
            found[name] = await kube.get(RESOURCE_CLAIM_TEMPLATES, name, namespace)
        except NotFoundError as error:
            if not error.of_kind:
                found[name] = None
        except ForbiddenError:
            continue
    return found
