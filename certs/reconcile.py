"""Keeps the webhook's certificate fresh and trusted: looks, takes the one step that is due, looks again.

Runs only under leadership. The chart makes both Secrets empty and the webhook configuration without a ``caBundle``;
this fills them. Secrets are patched, never created: after an uninstall nothing comes back. The bundle is written by
server-side apply of that one field, so Helm never meets a conflict. Every write names the version that was read,
so that a former leader that wakes up late changes nothing.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from certs import store
from certs.bundle import Act, Observed, Step, after, decide, new_leaf, wanted_bundle
from certs.namespace_owner import FIELD_MANAGER, own_by_namespace
from certs.policy import Lifetimes
from kube.api import KubeClient, Object, PatchKind
from kube.errors import ConflictError, KubeError, NotFoundError
from kube.resources import MUTATING_WEBHOOK_CONFIGURATIONS, SECRETS

WEBHOOK_ENTRY: Final = "pods.snapshot.nvidia.com"
"""Name of the entry in the webhook configuration.

It stays for ever: an upgrade that renamed it would leave our ``caBundle`` on an entry without anything else, which
the API server refuses.
"""
INTERVAL: Final = 60.0
"""Seconds between two looks: a deleted key or a foreign bundle is put right within a minute."""
RETRY: Final = 5.0
"""Seconds after an error or a lost race."""
MAX_STEPS: Final = 16
"""Twice the steps of a whole rotation: more in one pass would mean that something undoes them."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Targets:
    """Which installation's certificates."""

    namespace: str
    """Namespace of the release."""
    fullname: str
    """The chart's full name of the release; prefix of everything it makes."""
    lifetimes: Lifetimes = field(default=Lifetimes())

    @property
    def serving_secret(self) -> str:
        """Secret that webhooks mount."""
        return f"{self.fullname}-webhook-tls"

    @property
    def authority_secret(self) -> str:
        """Secret that only the controller reads."""
        return f"{self.fullname}-webhook-ca"

    @property
    def configuration(self) -> str:
        """The MutatingWebhookConfiguration; cluster-scoped, so its name carries the namespace."""
        return f"{self.fullname}-{self.namespace}"

    @property
    def dns_names(self) -> tuple[str, ...]:
        """What API servers (first) and people call the webhook's Service."""
        service = f"{self.fullname}-webhook.{self.namespace}"
        return (f"{service}.svc", service, f"{service}.svc.cluster.local")


@dataclass(frozen=True, slots=True)
class Seen:
    """The three objects as just read, and what they say."""

    configuration: Object
    authorities: Object
    serving: Object
    observed: Observed


def _unseen(_: Observed) -> None:
    """Ignore what was observed."""


async def run(
    kube: KubeClient,
    targets: Targets,
    clock: Callable[[], datetime],
    *,
    wake: asyncio.Event | None = None,
    see: Callable[[Observed], None] = _unseen,
) -> None:
    """Reconcile until cancelled: every minute, and at once whenever *wake* is set.

    Args:
        kube: the API server.
        targets: which installation.
        clock: the present, timezone-aware.
        wake: set when something has changed; cleared here.
        see: called with what the cluster holds, in each pass.
    """
    called = wake or asyncio.Event()
    while True:
        pause = await _guarded(kube, targets, clock, see)
        try:
            await asyncio.wait_for(called.wait(), pause)
        except TimeoutError:
            continue
        called.clear()


async def reconcile(
    kube: KubeClient, targets: Targets, clock: Callable[[], datetime], see: Callable[[Observed], None] = _unseen
) -> tuple[Step, ...]:
    """Take every step that is due now and return them.

    Raises:
        KubeError: a call failed; NotFoundError if an object of the chart is missing, ConflictError if another
            client wrote first or owns the bundle.
    """
    taken: list[Step] = []
    while len(taken) < MAX_STEPS:
        seen = await observe(kube, targets)
        see(seen.observed)
        now = clock()
        step = decide(seen.observed, now)
        if step is None:
            break
        logger.info("certificates: %s: %s", step.act.value, step.why, extra={"act": step.act.value})
        await _carry_out(kube, targets, seen, step, now)
        taken.append(step)
    return tuple(taken)


async def observe(kube: KubeClient, targets: Targets) -> Seen:
    """Read the webhook configuration and both Secrets.

    The configuration comes first: a client that changes authorities afterwards must change it too, and our stale write
    to it is then refused.

    Raises:
        KubeError: a call failed.
    """
    configuration = await kube.get(MUTATING_WEBHOOK_CONFIGURATIONS, targets.configuration)
    authorities = await kube.get(SECRETS, targets.authority_secret, targets.namespace)
    serving = await kube.get(SECRETS, targets.serving_secret, targets.namespace)
    observed = Observed(
        state=store.read_state(authorities.get("data") or {}),
        leaf=store.read_leaf(serving.get("data") or {}),
        bundle=store.read_bundle(configuration, WEBHOOK_ENTRY),
        dns_names=targets.dns_names,
        lifetimes=targets.lifetimes,
    )
    return Seen(configuration, authorities, serving, observed)


async def _guarded(
    kube: KubeClient, targets: Targets, clock: Callable[[], datetime], see: Callable[[Observed], None]
) -> float:
    """Run one pass; its errors become log lines. Return how long to wait."""
    try:
        await reconcile(kube, targets, clock, see)
    except NotFoundError as error:
        logger.warning("certificates: %s; the release is being installed or removed", error)
    except ConflictError as error:
        logger.warning("certificates: %s; if it stays so, another manager owns the field: remove its claim", error)
    except KubeError as error:
        logger.warning("certificates: %s", error)
    else:
        await own_by_namespace(kube, targets.configuration, targets.namespace)
        return INTERVAL
    return RETRY


async def _carry_out(kube: KubeClient, targets: Targets, seen: Seen, step: Step, now: datetime) -> None:
    observed = seen.observed
    if step.act is Act.INJECT:
        await _inject(kube, targets, seen)
    elif step.act is Act.ISSUE:
        leaf = store.write_leaf(new_leaf(observed, now), wanted_bundle(observed.state))
        await _patch_secret(kube, targets, targets.serving_secret, seen.serving, leaf)
    else:
        state = after(step, observed, now, f"{targets.fullname}-webhook.{targets.namespace}")
        await _patch_secret(kube, targets, targets.authority_secret, seen.authorities, store.write_state(state))


async def _inject(kube: KubeClient, targets: Targets, seen: Seen) -> None:
    bundle = store.write_bundle(wanted_bundle(seen.observed.state))
    body = {
        "apiVersion": MUTATING_WEBHOOK_CONFIGURATIONS.api_version,
        "kind": MUTATING_WEBHOOK_CONFIGURATIONS.kind,
        "metadata": {"name": targets.configuration, "resourceVersion": _version(seen.configuration)},
        "webhooks": [{"name": WEBHOOK_ENTRY, "clientConfig": {"caBundle": bundle}}],
    }
    await kube.patch(
        MUTATING_WEBHOOK_CONFIGURATIONS,
        targets.configuration,
        body,
        kind=PatchKind.APPLY,
        field_manager=FIELD_MANAGER,
    )


async def _patch_secret(
    kube: KubeClient, targets: Targets, name: str, read: Object, data: Mapping[str, str | None]
) -> None:
    body = {"metadata": {"resourceVersion": _version(read)}, "data": dict(data)}
    await kube.patch(SECRETS, name, body, targets.namespace, field_manager=FIELD_MANAGER)


def _version(read: Object) -> str:
    return str(read["metadata"]["resourceVersion"])
