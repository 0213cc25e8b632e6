import asyncio
import contextlib
from datetime import UTC, datetime, timedelta

import pytest

from certs.bundle import Act
from certs.policy import certificates
from certs.reconcile import WEBHOOK_ENTRY, Targets, reconcile, run
from certs.store import read_bundle, read_leaf
from kube.api import PatchKind
from kube.errors import ConflictError, NotFoundError, ServerUnavailableError

START = datetime(2026, 11, 21, 3, 0, tzinfo=UTC)
TARGETS = Targets("ns", "snap")
FIRST_INSTALL = (Act.MINT, Act.INJECT, Act.CONFIRM, Act.PROMOTE, Act.ISSUE)


class Clock:
    def __init__(self):
        self.now = START

    def __call__(self):
        return self.now


class FakeKube:
    """The three objects behind the seam, with the API's two rules that matter: versions, and no patch creates."""

    def __init__(self):
        entry = {"name": WEBHOOK_ENTRY, "clientConfig": {"service": {"name": "snap-webhook"}}}
        self.objects = {
            "snap-ns": {"metadata": {"resourceVersion": "1"}, "webhooks": [entry]},
            "snap-webhook-tls": {"metadata": {"resourceVersion": "1"}, "type": "Opaque"},
            "snap-webhook-ca": {"metadata": {"resourceVersion": "1"}, "type": "Opaque"},
        }
        self.patches = []
        self.fail_next = None
        self.failed = asyncio.Event()
        self.served = asyncio.Event()

    async def get(self, _resource, name, _namespace=None):
        if name not in self.objects:
            raise NotFoundError(404, "NotFound", f"{name} not found")
        return dict(self.objects[name], metadata=dict(self.objects[name]["metadata"]))

    async def patch(self, _resource, name, body, _namespace=None, *, kind=PatchKind.MERGE, field_manager=""):
        if self.fail_next:
            error, self.fail_next = self.fail_next, None
            self.failed.set()
            raise error
        stored = self.objects.get(name)
        if stored is None:
            raise NotFoundError(404, "NotFound", f"{name} not found")
        if body["metadata"]["resourceVersion"] != stored["metadata"]["resourceVersion"]:
            raise ConflictError(409, "Conflict", "the object has been modified")
        self.patches.append((name, kind, field_manager, body))
        stored["metadata"]["resourceVersion"] = str(int(stored["metadata"]["resourceVersion"]) + 1)
        if "webhooks" in body:
            stored["webhooks"][0]["clientConfig"] |= body["webhooks"][0]["clientConfig"]
        else:
            merged = stored.get("data", {}) | body["data"]
            if name == "snap-webhook-tls":
                self.served.set()
            stored["data"] = {key: value for key, value in merged.items() if value is not None}
        return stored


@pytest.fixture
def kube():
    return FakeKube()


@pytest.fixture
def clock():
    return Clock()


def acts(steps):
    return tuple(step.act for step in steps)


async def test_a_new_release_gets_its_certificate_in_one_pass(kube, clock):
    assert FIRST_INSTALL == acts(await reconcile(kube, TARGETS, clock))
    assert () == await reconcile(kube, TARGETS, clock)

    (authority,) = certificates(read_bundle(kube.objects["snap-ns"], WEBHOOK_ENTRY))
    (leaf,) = certificates(read_leaf(kube.objects["snap-webhook-tls"]["data"]).certificate)
    leaf.verify_directly_issued_by(authority)


async def test_keys_of_authorities_never_enter_the_mounted_secret(kube, clock):
    await reconcile(kube, TARGETS, clock)

    assert {"ca.crt", "tls.crt", "tls.key"} == set(kube.objects["snap-webhook-tls"]["data"])
    assert {"ca-current.crt", "ca-current.key"} == set(kube.objects["snap-webhook-ca"]["data"])


async def test_the_bundle_is_applied_and_nothing_else_of_the_configuration(kube, clock):
    await reconcile(kube, TARGETS, clock)
    (injection,) = [patch for patch in kube.patches if patch[0] == "snap-ns"]
    _, kind, manager, body = injection

    assert (PatchKind.APPLY, "snapshot-controller") == (kind, manager)
    assert {"name", "clientConfig"} == set(body["webhooks"][0])
    assert {"caBundle"} == set(body["webhooks"][0]["clientConfig"])


async def test_a_leaf_is_renewed_in_time(kube, clock):
    await reconcile(kube, TARGETS, clock)
    clock.now += timedelta(days=61)

    assert (Act.ISSUE,) == acts(await reconcile(kube, TARGETS, clock))


async def test_an_authority_is_replaced_with_overlap(kube, clock):
    await reconcile(kube, TARGETS, clock)
    clock.now += timedelta(days=500)
    await reconcile(kube, TARGETS, clock)
    clock.now += timedelta(days=51, hours=1)

    assert (Act.MINT, Act.INJECT, Act.CONFIRM) == acts(await reconcile(kube, TARGETS, clock))
    clock.now += timedelta(minutes=3)
    assert (Act.PROMOTE, Act.ISSUE) == acts(await reconcile(kube, TARGETS, clock))
    assert 2 == len(certificates(read_bundle(kube.objects["snap-ns"], WEBHOOK_ENTRY)))
    clock.now += timedelta(days=91)
    assert (Act.RETIRE, Act.INJECT, Act.ISSUE) == acts(await reconcile(kube, TARGETS, clock))
    assert 1 == len(certificates(read_bundle(kube.objects["snap-ns"], WEBHOOK_ENTRY)))


@pytest.mark.parametrize("missing", ["snap-ns", "snap-webhook-tls", "snap-webhook-ca"])
async def test_after_an_uninstall_nothing_is_made_anew(kube, clock, missing):
    del kube.objects[missing]

    with pytest.raises(NotFoundError):
        await reconcile(kube, TARGETS, clock)
    assert missing not in kube.objects
    assert [] == kube.patches


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(ConflictError(409, "Conflict", "modified"), id="lost-race"),
        pytest.param(ServerUnavailableError("refused"), id="server-away"),
        pytest.param(NotFoundError(404, "NotFound", "gone"), id="uninstalling"),
    ],
)
async def test_run_survives_errors_and_goes_on_when_woken(kube, clock, error):
    kube.fail_next = error
    wake = asyncio.Event()
    task = asyncio.create_task(run(kube, TARGETS, clock, wake=wake))
    await kube.failed.wait()
    wake.set()
    await kube.served.wait()
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task

    assert not wake.is_set()


def test_names_follow_the_release():
    assert ("snap-webhook-tls", "snap-webhook-ca", "snap-ns") == (
        TARGETS.serving_secret,
        TARGETS.authority_secret,
        TARGETS.configuration,
    )
    assert "snap-webhook.ns.svc" == TARGETS.dns_names[0]
