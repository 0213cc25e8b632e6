"""Leader election by a Lease: at most one process acts at a time, and the next takes over at once.

The rules of client-go, over raw dicts: a Lease belongs to its holder until it has not changed for its own duration, as
measured by the observer's monotonic clock (wall clocks of two machines are never compared). Every write carries the
resource version it builds on, so two candidates cannot both win. A leader that could not renew for
``RENEW_DEADLINE`` stops its work by itself, before another candidate may take the Lease.
On shutdown the Lease is given back, after the work has ended, so that the successor need not wait.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from contract.api.times import format_micro_time, parsed_time
from kube.api import KubeClient, Object
from kube.errors import ConflictError, KubeError, NotFoundError
from kube.resources import LEASES

LEASE_SECONDS: Final = 15
RENEW_DEADLINE: Final = 10.0
RETRY_SECONDS: Final = 2.0
"""The usual 15, 10 and 2 seconds: the leader stops 5 s before its Lease may be taken."""
RELEASE_TIMEOUT: Final = 2.0
"""Seconds to give the Lease back on shutdown; kubelet's grace period is 30."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Terms:
    """Times of a Lease, seconds: its holder must stop well before another may take it."""

    lease: int = LEASE_SECONDS
    """How long it outlives its last renewal."""
    deadline: float = RENEW_DEADLINE
    """How long the holder continues without a renewal."""
    retry: float = RETRY_SECONDS
    """Between renewals, and between attempts to take it."""


class LeadershipLostError(Exception):
    """The Lease could not be renewed in time or has another holder: the work was stopped."""


class Election:
    """One candidate for one Lease."""

    def __init__(self, kube: KubeClient, namespace: str, name: str, identity: str, terms: Terms | None = None) -> None:
        self._kube = kube
        self._namespace = namespace
        self._name = name
        self._identity = identity
        self._terms = terms or Terms()
        self._seen: Object | None = None
        self._seen_at = 0.0
        self.leading = False
        self.led_until: datetime | None = None
        """When the previous leader last renewed, by its clock; without one, when this candidate began to lead.

        None before that.
        """

    async def run(self, lead: Callable[[], Awaitable[None]]) -> None:
        """Wait for the Lease, then run *lead* while holding it; both end together.

        Raises:
            ExceptionGroup: of what *lead* raised, or of a LeadershipLostError: *lead* was cancelled because the Lease
                was lost; the process should end and be restarted.
        """
        await self._acquire()
        logger.info("leading", extra={"lease": self._name, "identity": self._identity})
        self.leading = True
        try:
            async with asyncio.TaskGroup() as group:
                keeper = group.create_task(self._keep(), name="lease keeper")
                group.create_task(_then_cancel(lead, keeper), name="leader's work")
        finally:
            self.leading = False
            await self._release()

    async def _acquire(self) -> None:
        while True:
            if await self._try():
                return
            await asyncio.sleep(self._terms.retry * random.uniform(0.5, 1))  # noqa: S311 - spreads load

    async def _keep(self) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._terms.deadline
        while True:
            await asyncio.sleep(self._terms.retry)
            started = loop.time()
            try:
                async with asyncio.timeout_at(deadline):
                    held = await self._try()
            except TimeoutError:
                raise LeadershipLostError(f"Lease {self._name} not renewed for {self._terms.deadline:.0f} s") from None
            if held:
                deadline = started + self._terms.deadline
            elif self._holder() not in ("", self._identity):
                raise LeadershipLostError(f"Lease {self._name} was taken by {self._holder()}")

    async def _try(self) -> bool:
        """Take or renew the Lease; False if that did not work this time."""
        try:
            return await self._take()
        except KubeError as error:
            if not isinstance(error, ConflictError):
                logger.warning("lease %s: %s", self._name, error)
            return False

    async def _take(self) -> bool:
        try:
            self._observe(await self._kube.get(LEASES, self._name, self._namespace))
        except NotFoundError:
            self.led_until = datetime.now(UTC)
            body = {
                "apiVersion": LEASES.api_version,
                "kind": LEASES.kind,
                "metadata": {"name": self._name, "namespace": self._namespace},
                "spec": self._spec(self._terms.lease, self._identity),
            }
            self._observe(await self._kube.create(LEASES, body, self._namespace))
            return True
        if self._holder() not in ("", self._identity) and not self._expired():
            return False
        if self._holder() != self._identity:
            # Noted before the write: its answer may be lost, and the Lease then ours all the same.
            self.led_until = parsed_time(self._current()["spec"].get("renewTime"))
        self._observe(await self._write(self._terms.lease, self._identity))
        return True

    async def _write(self, seconds: int, holder: str) -> Object:
        body = {
            "metadata": {"resourceVersion": self._current()["metadata"]["resourceVersion"]},
            "spec": self._spec(seconds, holder),
        }
        return await self._kube.patch(LEASES, self._name, body, self._namespace)

    async def _release(self) -> None:
        if self._holder() != self._identity:
            return
        try:
            async with asyncio.timeout(RELEASE_TIMEOUT):
                await self._write(1, "")
        except (KubeError, TimeoutError) as error:
            logger.warning("lease %s not released: %s", self._name, error)
        else:
            logger.info("lease released", extra={"lease": self._name})

    def _spec(self, seconds: int, holder: str) -> Object:
        now = format_micro_time(datetime.now(UTC))
        spec: Object = {"holderIdentity": holder, "leaseDurationSeconds": seconds, "renewTime": now}
        if self._holder() != self._identity:
            before = self._current()["spec"].get("leaseTransitions", 0) if self._seen else -1
            spec |= {"acquireTime": now, "leaseTransitions": before + 1}
        return spec

    def _observe(self, lease: Object) -> None:
        if self._seen is None or self._seen["metadata"]["resourceVersion"] != lease["metadata"]["resourceVersion"]:
            self._seen, self._seen_at = lease, asyncio.get_running_loop().time()

    def _expired(self) -> bool:
        seconds = float(self._current()["spec"].get("leaseDurationSeconds") or self._terms.lease)
        return asyncio.get_running_loop().time() >= self._seen_at + seconds

    def _holder(self) -> str:
        return str((self._seen or {}).get("spec", {}).get("holderIdentity") or "")

    def _current(self) -> Object:
        if self._seen is None:
            raise RuntimeError("the Lease was not read yet")
        return self._seen


async def _then_cancel(lead: Callable[[], Awaitable[None]], keeper: asyncio.Task[None]) -> None:
    await lead()
    keeper.cancel()
