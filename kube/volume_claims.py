"""The live copy of the claims of one name, and what it is worth."""

from contract.api.volume_claims import ClaimState, claim_state
from kube.api import KubeClient, Transform
from kube.informer import Informer
from kube.resources import PERSISTENT_VOLUME_CLAIMS


def claims_informer(kube: KubeClient, namespace: str | None, name: str, keep: Transform) -> Informer:
    """A copy of the claims *name* of *namespace*, or of all namespaces where it is None; nothing runs yet.

    The API server allows it to whoever may list and watch claims of that one name (``resourceNames``).
    """
    return Informer(kube, PERSISTENT_VOLUME_CLAIMS, namespace, fields=f"metadata.name={name}", keep=keep)


class VolumeClaimInformer:
    """How claims stand by such a copy."""

    def __init__(self, informer: Informer, name: str) -> None:
        self.informer = informer
        self._name = name

    def of(self, namespace: str) -> ClaimState:
        """How the claim of *namespace* stands; unknown while it may not be listed."""
        if self.informer.forbidden or not self.informer.synced.is_set():
            return ClaimState.UNKNOWN
        return claim_state(self.informer.store.get(namespace, self._name))
