"""What the webhook knows: live copies of checkpoints and, with podMount, of the claims that pods mount."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from contract.api.states import AccessMode
from contract.api.volume_claims import Claims, unknown
from kube.informer import Informer
from kube.resources import CHECKPOINTS
from kube.volume_claims import VolumeClaimInformer, claims_informer

if TYPE_CHECKING:
    from contract.config.values import Values
    from kube.api import KubeClient, Object

CLAIMS: Final = "claims"
_METADATA: Final = ("name", "namespace", "uid", "resourceVersion", "deletionTimestamp")
logger = logging.getLogger(__name__)


def kept_claim(claim: Object) -> Object:
    """Return what of *claim* is kept in the cache."""
    before = claim["metadata"]
    metadata = {field: before[field] for field in _METADATA if field in before}
    return {"metadata": metadata, "status": {"phase": (claim.get("status") or {}).get("phase", "")}}


class Informers:
    """All of them.

    The account may list claims of the configured name. Under the roles of an older release it may not: then nothing is
    known of them, and admission goes on as it did there.
    """

    def __init__(self, kube: KubeClient, namespace: str | None, values: Values) -> None:
        self._claim_name = values.storage.pvc.claim_name
        self.checkpoints = Informer(kube, CHECKPOINTS, namespace)
        self.informers = {"checkpoints": self.checkpoints}
        """By name."""
        self.claims: Claims = unknown
        """How claims stand, from memory."""
        if values.storage.access_mode == AccessMode.POD_MOUNT:
            informer = claims_informer(kube, namespace, self._claim_name, kept_claim)
            self.informers[CLAIMS] = informer
            self.claims = VolumeClaimInformer(informer, self._claim_name).of

    def missing(self, name: str) -> str | None:
        """Say why no request can be answered yet; without them every checkpoint would be called missing."""
        informer = self.informers[name]
        settled = informer.synced.is_set() or (name == CLAIMS and informer.forbidden)
        return None if settled else "not listed yet"

    @property
    def whole(self) -> bool:
        """Whether all is known that can be known."""
        return not any(self.missing(name) for name in self.informers)

    def warn(self) -> None:
        """Say what cannot be known."""
        if CLAIMS in self.informers and self.informers[CLAIMS].forbidden:
            logger.warning(
                "persistentvolumeclaims of the name %s may not be listed: pods are shaped whether or not the claim is "
                "there, unless their checkpoint says that it is not; `helm upgrade` brings the role up to date",
                self._claim_name,
            )
