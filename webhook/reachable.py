"""Whether the API server can reach this webhook: part of readiness, until it was so once.

A replica that listens is not yet reached: its Service has to know it, and API servers have to trust what it serves.
A rollout that is done before makes pods that no webhook sees. So a replica makes the same call itself: through the
Service, with the bundle that was injected into the webhook's configuration.

Only ready pods are behind a Service, so of the first replicas one has to be ready before it was reached; the others
wait until they reach that one.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import ssl
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from certs.reconcile import WEBHOOK_ENTRY
from certs.store import read_bundle
from kube.errors import ForbiddenError, KubeError
from kube.resources import ENDPOINT_SLICES, MUTATING_WEBHOOK_CONFIGURATIONS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kube.api import Listing, Object
    from kube.resources import Resource

PORT: Final = 443
"""Of the Service."""
TRY_SECONDS: Final = 2.0
"""What a call may take: the API server's own time-out by default."""
PAUSE_SECONDS: Final = 0.25
LIMIT_SECONDS: Final = 30.0
"""From then on it is ready all the same: a webhook that no replica may call, because a network policy forbids that, is
perhaps reached by API servers, and one that is not ready is reached by none."""
_SERVICE_NAME: Final = "kubernetes.io/service-name"
logger = logging.getLogger(__name__)


class Reader(Protocol):
    """What is read of the API."""

    async def get(self, resource: Resource, name: str, namespace: str | None = None) -> Object:
        """Read one object."""
        ...

    async def list(self, resource: Resource, namespace: str | None = None, *, labels: str = "") -> Listing:
        """Read a whole collection."""
        ...


@dataclass(frozen=True, slots=True)
class Look:
    """What one look found."""

    bundle: bool = False
    """Whether API servers have been given a bundle."""
    answered: bool = False
    """Whether a replica answered through the Service with a certificate that the bundle trusts."""
    first: bool = False
    """Whether there is no replica behind the Service that could answer, and this one is to be the first."""
    waited: float = 0.0
    """Seconds since it listens."""


def problem_of(look: Look) -> str | None:
    """Return why a replica is not ready; None if it is."""
    if look.answered or look.waited >= LIMIT_SECONDS:
        return None
    if not look.bundle:
        return "no CA bundle is in the webhook configuration yet; the controller, or cert-manager, puts it there"
    return None if look.first else "not reached through the Service yet"


def is_first(slices: Iterable[Object], pod: str) -> bool:
    """Say whether *pod* is to be the first behind a Service: none is ready, and no other has an earlier name.

    Args:
        slices: the Service's EndpointSlices, which hold pods that are not ready as well.
        pod: name of this pod. While the slices lack it, they may lack others as well, and none is the first.
    """
    endpoints = [each for found in slices for each in found.get("endpoints") or ()]
    names = {str((each.get("targetRef") or {}).get("name") or "") for each in endpoints} - {""}
    ready = any((each.get("conditions") or {}).get("ready", True) for each in endpoints)
    return not ready and pod == min(names, default="")


class Reachable:
    """Looks until the webhook was reached once."""

    def __init__(self, kube: Reader, *, namespace: str, service: str, configuration: str, pod: str) -> None:
        self._kube = kube
        self._namespace = namespace
        self._service = service
        self._configuration = configuration
        self._pod = pod
        self.problem: str | None = "not listening yet"
        """Why it is not ready; None if it is."""

    async def run(self) -> None:
        """Look until it is ready; call once it listens."""
        started = time.monotonic()
        while True:
            look = await self._look(time.monotonic() - started)
            self.problem = problem_of(look)
            if self.problem is None:
                break
            await asyncio.sleep(PAUSE_SECONDS)
        if look.answered or look.first:
            logger.info("reached through Service %s" if look.answered else "first behind Service %s", self._service)
        else:
            logger.warning(
                "Service %s was not reached within %.0f s, ready all the same: do API servers reach it? A network "
                "policy may keep webhook pods from each other",
                self._service,
                LIMIT_SECONDS,
            )

    async def _look(self, waited: float) -> Look:
        try:
            found = await self._kube.get(MUTATING_WEBHOOK_CONFIGURATIONS, self._configuration)
            bundle = read_bundle(found, WEBHOOK_ENTRY)
            if bundle and await self._answers(bundle):
                return Look(bundle=True, answered=True)
            labels = f"{_SERVICE_NAME}={self._service}"
            slices = await self._kube.list(ENDPOINT_SLICES, self._namespace, labels=labels)
            return Look(bundle=bool(bundle), first=is_first(slices.items, self._pod), waited=waited)
        except ForbiddenError as error:
            logger.warning("cannot see whether API servers reach it; `helm upgrade` renews the roles: %s", error)
            return Look(waited=LIMIT_SECONDS)
        except KubeError as error:
            logger.info("API server not asked: %s", error)
            return Look(waited=waited)

    async def _answers(self, bundle: str) -> bool:
        """Open a connection as API servers do; the handshake says enough."""
        name = f"{self._service}.{self._namespace}.svc"
        # As kubelet writes it into pods that are made after the Service; cluster DNS may not be there yet.
        variable = self._service.upper().replace("-", "_")
        host = os.environ.get(f"{variable}_SERVICE_HOST") or name
        port = int(os.environ.get(f"{variable}_SERVICE_PORT") or PORT)
        with contextlib.suppress(OSError, ValueError, TimeoutError):
            context = trusting(bundle)
            async with asyncio.timeout(TRY_SECONDS):
                _, writer = await asyncio.open_connection(host, port, ssl=context, server_hostname=name)
                writer.close()
            return True
        return False


def trusting(bundle: str) -> ssl.SSLContext:
    """Return a client's context that trusts what API servers trust, as far as they do.

    Raises:
        OSError: the bundle holds no certificate.
    """
    context = ssl.create_default_context(cadata=bundle)
    # Go takes each certificate of a pool for a root, and is content with fewer extensions.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context
