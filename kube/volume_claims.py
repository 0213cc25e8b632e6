"""An informer cache of the claims of one name, and what it says of them."""

from contract.api.volume_claims import ClaimState, claim_state
from kube.api import KubeClient, Transform
from kube.informer import Informer
from kube.resources import PERSISTENT_VOLUME_CLAIMS


def claims_informer(kube: KubeClient, namespace: str | None, name: str, keep: Transform) -> Informer:
    """Make an informer of the claims *name* of *namespace*, or of all namespaces if it is None; nothing runs yet.

    The API server allows it to an account that may list and watch claims of that one name (``resourceNames``).
    """
    return Informer(kube, PERSISTENT_VOLUME_CLAIMS, namespace, fields=f"metadata.name={name}", keep=keep)


class VolumeClaimInformer:
    """The state of claims, by such a cache."""

    def __init__(self, informer: Informer, name: str) -> None:
        self.informer = informer
        self._name = name

    def of(self, namespace: str) -> ClaimState:
        """Return the state of the claim of *namespace*; unknown while it may not be listed."""
        if self.informer.forbidden or not self.informer.synced.is_set():
            return ClaimState.UNKNOWN
        return claim_state(self.informer.store.get(namespace, self._name))
