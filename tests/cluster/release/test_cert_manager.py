"""Certificates by a real cert-manager: issued, trusted, renewed under load, and no pod lost over it."""

import asyncio
import contextlib
import json
import ssl
from datetime import UTC, datetime
from uuid import uuid4

import pytest
from cryptography.x509 import DNSName, SubjectAlternativeName

from certs.policy import certificates
from certs.reconcile import Targets, reconcile
from contract.api import keys
from kube.client import connect
from kube.resources import PODS
from tests.support.builders.objects import ID, checkpoint, opted_in
from tests.support.fixtures.cert_manager import ACCOUNTS, INJECTOR, Certified, CertManager, kubelet
from tests.support.fixtures.installed import RELEASE, ROOT, Installed, new_namespace
from tests.support.waiting import until

LATE = 1.0
"""Seconds until the pod's files follow the Secret; in a cluster up to a minute and more."""
CREATORS = 2


@pytest.fixture(scope="module")
def cert_manager(control_plane, tmp_path_factory):
    found = CertManager(control_plane, tmp_path_factory.mktemp("cert-manager"))
    try:
        found.install()
        for program in ACCOUNTS:
            found.ensure(program)
        yield found
    finally:
        found.end()


@pytest.fixture(scope="module")
def release(control_plane, cert_manager, tmp_path_factory):
    """Installed, certified, and asked about pods."""
    found = Certified(control_plane, tmp_path_factory.mktemp("release"))
    try:
        found.checkpoint(checkpoint("ready"), {"phase": "Ready", "checkpointID": ID})
        found.begin()
        until(lambda: found.code(wish()) == "restore-shaped", "the webhook is asked")
        yield found
    finally:
        found.end()
        found.uninstall()


@pytest.fixture
async def kube(control_plane):
    async with await connect(str(control_plane.kubeconfig)) as client:
        yield client


def wish():
    body = opted_in(name="ready")
    del body["metadata"]["namespace"]
    return body


def served(release):
    return ssl.get_server_certificate(("localhost", release.port), timeout=10)


def test_the_certificate_is_ready_and_for_the_service(release):
    """The API server calls the Service by this name and accepts nothing else."""
    said = release.kubectl(
        "wait", "certificate", release.certificate, "-n", release.namespace, "--for=condition=Ready", "--timeout=30s"
    )
    (leaf, *_) = certificates(served(release))

    assert "condition met" in said
    names = leaf.extensions.get_extension_for_class(SubjectAlternativeName).value.get_values_for_type(DNSName)
    assert f"{RELEASE}-webhook.{release.namespace}.svc" in names


def test_a_pod_is_shaped(release):
    made = release.create(wish())

    assert "ready" == made["metadata"]["annotations"][keys.ANN_CHECKPOINT]
    assert ID == made["metadata"]["labels"][keys.LABEL_CHECKPOINT_ID]
    release.kubectl("delete", "pod", made["metadata"]["name"], "-n", release.namespace, "--grace-period=0", "--force")


def renew(release, certificate):
    """What ``cmctl renew`` does."""
    condition = {
        "type": "Issuing",
        "status": "True",
        "reason": "ManuallyTriggered",
        "message": "renewed by hand",
        "lastTransitionTime": datetime.now(tz=UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    where = ("certificate", certificate, "-n", release.namespace)
    conditions = [*release.kubectl.json("get", *where)["status"]["conditions"], condition]
    change = json.dumps({"status": {"conditions": conditions}})
    release.kubectl("patch", *where, "--subresource=status", "--type=merge", "-p", change)


def leaf_renewed(release, _cert_manager):
    renew(release, release.certificate)


def secret_deleted(release, _cert_manager):
    release.kubectl("delete", "secret", release.secret, "-n", release.namespace)


def nobody_injects(release, cert_manager):
    cert_manager.kill(INJECTOR)
    renew(release, release.certificate)


@pytest.fixture
def injector_again(cert_manager):
    yield
    cert_manager.ensure(INJECTOR)


@pytest.mark.parametrize(
    "event",
    [
        pytest.param(leaf_renewed, id="renewed"),
        pytest.param(secret_deleted, id="secret-deleted"),
        pytest.param(nobody_injects, id="renewed-without-cainjector"),
    ],
)
@pytest.mark.usefixtures("injector_again")
async def test_a_renewal_loses_no_pod(kube, release, cert_manager, event):
    """The webhook fails closed here: a handshake that fails is a pod that is refused."""
    bundle = release.bundle()
    async with creators(kube, release) as tally:
        await tally.until_served_anew(lambda: event(release, cert_manager))

    assert bundle == release.bundle()


async def test_a_renewed_authority_loses_no_pod(kube, release):
    """Its key stays, so that the certificate that is still served is trusted by the new bundle too."""
    bundle = release.bundle()
    async with creators(kube, release) as tally:
        await asyncio.to_thread(authority_renewed, release)
        await tally.until_served_anew(lambda: renew(release, release.certificate))
        await asyncio.to_thread(until, lambda: bundle != release.bundle(), "the new bundle")
        assert [] == tally.failures()


def authority_renewed(release):
    def now():
        return release.kubectl.json("get", "secret", f"{RELEASE}-webhook-authority", "-n", release.namespace)["data"]

    before = now()
    renew(release, f"{RELEASE}-webhook-authority")
    until(lambda: before["tls.crt"] != now()["tls.crt"], "the new authority")
    assert before["tls.key"] == now()["tls.key"]


async def test_to_cert_manager_and_back(control_plane, cert_manager, kube, tmp_path):
    """As the chart's page says: the way back begins with the configuration, on which cainjector has a claim."""
    namespace = new_namespace(control_plane, f"switch-{uuid4().hex[:6]}")
    release = Installed(control_plane, namespace, tmp_path / "release", webhook_here=False)
    targets = Targets(namespace, RELEASE)

    await reconcile(kube, targets, now)
    ours = bundle(release)
    switch(release, "true")
    await asyncio.to_thread(until, lambda: bundle(release) not in ("", ours), lambda: cert_manager.log(INJECTOR))
    theirs = bundle(release)
    release.kubectl("delete", "mutatingwebhookconfiguration", release.configuration)
    switch(release, "false")
    await reconcile(kube, targets, now)

    assert bundle(release) not in ("", theirs)
    release.uninstall()


def now():
    return datetime.now(tz=UTC)


def bundle(release):
    (entry,) = release.kubectl.json("get", "mutatingwebhookconfiguration", release.configuration)["webhooks"]
    return entry["clientConfig"].get("caBundle", "")


def switch(release, enabled):
    chart = str(ROOT / "charts/snapshot")
    release.helm(
        *("upgrade", RELEASE, chart, "--reset-then-reuse-values", "--set", f"webhook.certManager.enabled={enabled}")
    )


class Tally:
    """Pods that are made all the time, each on a connection that the API server may have to open anew."""

    def __init__(self, release):
        self.release, self.made, self.tasks = release, 0, []
        self.over = asyncio.Event()

    def failures(self):
        return [task.exception() for task in self.tasks if task.done()]

    async def create(self, kube):
        while not self.over.is_set():
            pod = await kube.create(PODS, wish(), self.release.namespace, dry_run=True)
            assert "restore-shaped" == pod["metadata"]["annotations"][keys.ANN_ADMISSION]
            self.made += 1

    async def until_served_anew(self, event):
        """Do *event*; until another certificate is served, and has been for a while."""
        before = served(self.release)
        await asyncio.to_thread(event)
        async with asyncio.timeout(60):
            await self._until(lambda: before != served(self.release))
            enough = self.made + 20
            await self._until(lambda: self.made > enough)
        assert [] == self.failures()

    async def _until(self, look):
        while not (self.failures() or await asyncio.to_thread(look)):  # noqa: ASYNC110  # another process's files
            await asyncio.sleep(0.1)


@contextlib.asynccontextmanager
async def creators(kube, release):
    tally = Tally(release)
    works = [kubelet(kube, release, LATE, tally.over), *(tally.create(kube) for _ in range(CREATORS))]
    tally.tasks = [asyncio.ensure_future(work) for work in works]
    try:
        yield tally
    finally:
        tally.over.set()  # not cancelled: a call that is cut leaves its connection open
        await asyncio.gather(*tally.tasks, return_exceptions=True)
