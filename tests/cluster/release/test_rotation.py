"""Authorities and certificates change under load: no pod's creation fails, and none goes unseen.

Everything is real but the clock's scale: certificates live seconds, and kubelet is a task that copies the Secret's
files late.  The webhook closes every connection, so that each pod costs a TLS handshake of its own.
"""

import asyncio
import contextlib
import random
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from prometheus_client import CollectorRegistry

from certs.policy import Lifetimes, certificates
from certs.reconcile import WEBHOOK_ENTRY, Targets, reconcile
from certs.serve import ServingContext
from certs.store import read_bundle, read_leaf
from cluster.ports import free_port
from contract.api import keys
from contract.config.values import load_values
from kube.errors import ConflictError, KubeError
from kube.resources import MUTATING_WEBHOOK_CONFIGURATIONS, NAMESPACES, PODS, SECRETS, Resource
from tests.support.builders.objects import opted_in
from webhook.metrics import Metrics
from webhook.server import PATH, Edge, serve

SECOND = timedelta(seconds=1)
LIVES = Lifetimes(authority=20 * SECOND, leaf=6 * SECOND, leaf_renewal=3 * SECOND, propagation=1 * SECOND)
KUBELET_SECONDS = 1.5
CREATORS = 4
AUTHORITIES = 4
"""The test ends when this many have signed what was served, and the first has left the bundle."""
SERVICE_ACCOUNTS = Resource("", "v1", "serviceaccounts", "ServiceAccount")


class LocalTargets(Targets):
    """The webhook listens on this machine."""

    @property
    def dns_names(self):
        return ("localhost",)


@dataclass
class Tally:
    created: int = 0
    issuers: int = 0
    over: bool = False


def configuration(targets, port):
    """As the chart's, but for the address, and strict: a handshake that fails is a pod that fails."""
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": targets.configuration},
        "webhooks": [
            {
                "name": WEBHOOK_ENTRY,
                "admissionReviewVersions": ["v1"],
                "clientConfig": {"url": f"https://localhost:{port}{PATH}"},
                "failurePolicy": "Fail",
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": targets.namespace}},
                "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"], "operations": ["CREATE"]}],
                "sideEffects": "None",
                "timeoutSeconds": 20,
            }
        ],
    }


@pytest.fixture
def port():
    return free_port()


@pytest.fixture
async def targets(kube, port):
    """A namespace, and what the chart makes in it."""
    namespace = f"rotation-{uuid4().hex[:8]}"
    found = LocalTargets(namespace, "snap", LIVES)
    await kube.create(NAMESPACES, {"metadata": {"name": namespace}})
    await kube.create(SERVICE_ACCOUNTS, {"metadata": {"name": "default"}}, namespace)
    for name in (found.serving_secret, found.authority_secret):
        await kube.create(SECRETS, {"metadata": {"name": name}, "type": "Opaque"}, namespace)
    await kube.create(MUTATING_WEBHOOK_CONFIGURATIONS, configuration(found, port))
    yield found
    await kube.delete(MUTATING_WEBHOOK_CONFIGURATIONS, found.configuration)


async def controller(kube, targets):
    while True:
        with contextlib.suppress(ConflictError):
            await reconcile(kube, targets, lambda: datetime.now(UTC))
        await asyncio.sleep(0.1)


async def kubelet(kube, targets, folder):
    """Brings the files, late."""
    while True:
        leaf = read_leaf((await kube.get(SECRETS, targets.serving_secret, targets.namespace)).get("data") or {})
        await asyncio.sleep(random.uniform(0, KUBELET_SECONDS))
        if leaf.certificate:
            (folder / "tls.crt").write_text(leaf.certificate)
            (folder / "tls.key").write_text(leaf.key)


def a_pod(targets):
    found = opted_in(name="none")
    found["metadata"]["namespace"] = targets.namespace
    return found


async def creator(kube, targets, tally):
    pod = a_pod(targets)
    while not tally.over:
        made = await kube.create(PODS, pod, targets.namespace, dry_run=True)
        assert "checkpoint-not-found" == made["metadata"]["annotations"][keys.ANN_ADMISSION]
        tally.created += 1


async def judge(kube, targets, folder, tally):
    """Ends the test once enough has changed."""
    first, issuers = None, set()
    while not tally.over:
        issuers |= {leaf.issuer for leaf in certificates((folder / "tls.crt").read_text())}
        seen = await kube.get(MUTATING_WEBHOOK_CONFIGURATIONS, targets.configuration)
        trusted = [authority.subject for authority in certificates(read_bundle(seen, WEBHOOK_ENTRY))]
        first = first or trusted[0]
        tally.issuers = len(issuers)
        tally.over = tally.issuers >= AUTHORITIES and first not in trusted
        await asyncio.sleep(0.1)


@contextlib.asynccontextmanager
async def background(*works):
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        yield
        assert not [task for task in tasks if task.done()]
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_rotation_while_pods_are_created(kube, targets, tmp_path, port):
    serving = ServingContext(tmp_path)
    edge = Edge(lambda *_: None, load_values(""), Metrics(CollectorRegistry()), draining=True)
    tally = Tally()
    async with (
        background(
            controller(kube, targets),
            kubelet(kube, targets, tmp_path),
            serving.follow(0.05),
            serve(edge, serving.context, host="localhost", port=port),
        ),
        asyncio.timeout(120),
    ):
        await kube_asks(kube, targets)
        async with asyncio.TaskGroup() as group:
            for _ in range(CREATORS):
                group.create_task(creator(kube, targets, tally))
            group.create_task(judge(kube, targets, tmp_path, tally))

    assert AUTHORITIES <= tally.issuers
    assert 200 < tally.created


async def kube_asks(kube, targets):
    """The API server's own copy of the configuration follows a moment after it was written."""
    for _ in range(100):
        with contextlib.suppress(KubeError):
            made = await kube.create(PODS, a_pod(targets), targets.namespace, dry_run=True)
            if keys.ANN_ADMISSION in made["metadata"].get("annotations", {}):
                return
        await asyncio.sleep(0.1)
    raise AssertionError("the API server does not ask the webhook")
