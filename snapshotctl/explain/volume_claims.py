"""The volume claims that a decision asks for with podMount: read once each, where that is allowed."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from contract.api.volume_claims import Claims, ClaimState, claim_state, unknown
from kube.errors import ForbiddenError, NotFoundError
from kube.resources import PERSISTENT_VOLUME_CLAIMS

if TYPE_CHECKING:
    from kube.api import KubeClient


class KnownClaims:
    """What is known of the claims of one name.

    Args:
        kube: the cluster that is asked; None: no cluster is.
        name: of the claim, in every namespace.
        filed: answers if no cluster is asked.
    """

    def __init__(self, kube: KubeClient | None, name: str, filed: Claims = unknown) -> None:
        self._kube = kube
        self._name = name
        self._filed = filed
        self._known: dict[str, ClaimState] = {}
        self._lock = asyncio.Lock()

    def of(self, namespace: str) -> ClaimState:
        """Return the state of the claim, as far as it was learned."""
        return self._known.get(namespace, ClaimState.UNKNOWN)

    def seen(self, namespace: str) -> bool:
        """Say whether that is all that can be learned."""
        return namespace in self._known

    async def look(self, namespace: str) -> None:
        """Learn the state of the claim; many may ask at once, and the cluster is asked once.

        Raises:
            KubeError: the cluster does not say.
        """
        async with self._lock:
            if namespace not in self._known:
                self._known[namespace] = await self._look(namespace)

    def note(self, namespace: str) -> str:
        """Say what the reader of an answer must know; empty if the claim could be read."""
        if self.of(namespace) != ClaimState.UNKNOWN:
            return ""
        claim = f"PersistentVolumeClaim {namespace}/{self._name}"
        problem = (
            f"{claim} may not be read" if self._kube else f"the file holds no PersistentVolumeClaim, so not {claim}"
        )
        return f"{problem}: answered as if it existed; without it pods start cold"

    async def _look(self, namespace: str) -> ClaimState:
        if self._kube is None:
            return self._filed(namespace)
        try:
            return claim_state(await self._kube.get(PERSISTENT_VOLUME_CLAIMS, self._name, namespace))
        except NotFoundError:
            return ClaimState.MISSING
        except ForbiddenError:
            return ClaimState.UNKNOWN
