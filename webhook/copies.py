"""What the webhook knows: live copies of checkpoints and, with podMount, of the claims that pods mount."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from contract.claims import Claims, ClaimState, claim_state, unknown
from contract.states import AccessMode
from kube.informer import Informer
from kube.resources import CHECKPOINTS, PERSISTENT_VOLUME_CLAIMS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from contract.values import Values
    from kube.seam import Kube, Object

_METADATA: Final = ("name", "namespace", "uid", "resourceVersion", "deletionTimestamp")
logger = logging.getLogger(__name__)


def kept_claim(claim: Object) -> Object:
    """What of *claim* is remembered."""
    before = claim["metadata"]
    metadata = {field: before[field] for field in _METADATA if field in before}
    return {"metadata": metadata, "status": {"phase": (claim.get("status") or {}).get("phase", "")}}


class LiveClaims:
    """Which namespaces have the claim of the configured name.

    The account may list claims of that one name.  Under the roles of an older release it may not: then nothing is
    known of them, and admission goes on as it did there.
    """

    def __init__(self, kube: Kube, namespace: str | None, name: str) -> None:
        self.name = name
        fields = f"metadata.name={name}"
        self.informer = Informer(kube, PERSISTENT_VOLUME_CLAIMS, namespace, fields=fields, keep=kept_claim)

    def of(self, namespace: str) -> ClaimState:
        """How the claim of *namespace* stands."""
        if self.informer.forbidden or not self.informer.synced.is_set():
            return ClaimState.UNKNOWN
        return claim_state(self.informer.store.get(namespace, self.name))


class Copies:
    """All of them."""

    def __init__(self, kube: Kube, namespace: str | None, values: Values) -> None:
        self.checkpoints = Informer(kube, CHECKPOINTS, namespace)
        in_pod = values.storage.access_mode == AccessMode.POD_MOUNT
        self._claims = LiveClaims(kube, namespace, values.storage.pvc.name) if in_pod else None

    @property
    def informers(self) -> Mapping[str, Informer]:
        """By name."""
        return {"checkpoints": self.checkpoints} | ({"claims": self._claims.informer} if self._claims else {})

    @property
    def claims(self) -> Claims:
        """How claims stand, from memory."""
        return self._claims.of if self._claims else unknown

    def missing(self, name: str) -> str | None:
        """Why nobody can be answered yet; without the checkpoints, every one of them would be called missing."""
        informer = self.informers[name]
        settled = informer.synced.is_set() or (informer is not self.checkpoints and informer.forbidden)
        return None if settled else "not listed yet"

    @property
    def whole(self) -> bool:
        """Whether all is known that can be known."""
        return not any(self.missing(name) for name in self.informers)

    def warn(self) -> None:
        """Say what cannot be known."""
        if self._claims is not None and self._claims.informer.forbidden:
            logger.warning(
                "persistentvolumeclaims of the name %s may not be listed: pods are shaped whether or not the claim is "
                "there, unless their checkpoint says that it is not; `helm upgrade` brings the role up to date",
                self._claims.name,
            )
