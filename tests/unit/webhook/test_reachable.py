"""When a replica is ready: reached through its Service, or the first that can be."""

import asyncio
import contextlib
import ssl
from base64 import b64encode
from datetime import UTC, datetime, timedelta

import pytest

from certs.mint import issue_leaf, mint_authority
from certs.reconcile import WEBHOOK_ENTRY
from kube.api import Listing
from kube.errors import ForbiddenError, ServerUnavailableError
from kube.resources import MUTATING_WEBHOOK_CONFIGURATIONS
from webhook.reachable import LIMIT_SECONDS, Look, Reachable, is_first, problem_of

OFTEN = 3
NAMES = ["localhost", "snapshot-webhook.ns.svc"]


@pytest.mark.parametrize(
    ("problem", "look"),
    [
        pytest.param(None, Look(bundle=True, answered=True), id="reached"),
        pytest.param(None, Look(bundle=True, first=True), id="the-first"),
        pytest.param("no CA bundle", Look(), id="no-bundle"),
        pytest.param("no CA bundle", Look(first=True), id="the-first-without-a-bundle"),
        pytest.param("not reached through the Service", Look(bundle=True), id="another-is-to-be-reached"),
        pytest.param("not reached", Look(bundle=True, waited=LIMIT_SECONDS - 1), id="for-long"),
        pytest.param(None, Look(bundle=True, waited=LIMIT_SECONDS), id="for-too-long"),
        pytest.param(None, Look(waited=LIMIT_SECONDS), id="too-long-without-a-bundle"),
    ],
)
def test_what_keeps_it_from_being_ready(problem, look):
    said = problem_of(look)

    assert said is None if problem is None else problem in said


def endpoint(name, *, ready=False):
    return {"addresses": ["10.0.0.1"], "conditions": {"ready": ready}, "targetRef": {"kind": "Pod", "name": name}}


@pytest.mark.parametrize(
    ("expected", "slices"),
    [
        pytest.param(False, [], id="not-known-yet"),
        pytest.param(True, [[endpoint("a")]], id="alone"),
        pytest.param(True, [[endpoint("b")], [endpoint("a")]], id="earliest-name"),
        pytest.param(False, [[endpoint("0"), endpoint("a")]], id="another-is-earlier"),
        pytest.param(False, [[endpoint("b", ready=True), endpoint("a")]], id="another-is-ready"),
        pytest.param(False, [[endpoint("b")]], id="only-another-is-known"),
        pytest.param(False, [[{"addresses": ["10.0.0.2"]}, endpoint("a")]], id="ready-by-default"),
    ],
)
def test_who_is_the_first(expected, slices):
    assert expected == is_first([{"endpoints": found} for found in slices], "a")


class Api:
    """What the API server says; an error is raised."""

    def __init__(self, bundle="", slices=(), error=None):
        self.bundle, self.slices, self.error, self.asked = bundle, slices, error, 0
        self.asked_often = asyncio.Event()

    async def get(self, resource, name, _namespace=None):
        self.asked += 1
        if self.asked == OFTEN:
            self.asked_often.set()
        if self.error:
            raise self.error
        assert (MUTATING_WEBHOOK_CONFIGURATIONS, "snapshot-ns") == (resource, name)
        client = {"caBundle": b64encode(self.bundle.encode()).decode()} if self.bundle else {}
        return {"webhooks": [{"name": WEBHOOK_ENTRY, "clientConfig": client}]}

    async def list(self, _resource, _namespace=None, *, labels=""):
        assert labels == "kubernetes.io/service-name=snapshot-webhook"
        return Listing(tuple({"endpoints": found} for found in self.slices), "1")


@pytest.fixture(scope="module")
def authority():
    return mint_authority("test", datetime.now(UTC), timedelta(days=1))


@contextlib.asynccontextmanager
async def service(authority, folder, monkeypatch):
    """A server with a certificate of the authority, behind the address that the Service's variable names."""
    leaf = issue_leaf(authority, NAMES, datetime.now(UTC), timedelta(hours=1))
    (folder / "tls.crt").write_text(leaf.certificate)
    (folder / "tls.key").write_text(leaf.key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "tls.crt", folder / "tls.key")
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=context)
    monkeypatch.setenv("SNAPSHOT_WEBHOOK_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("SNAPSHOT_WEBHOOK_SERVICE_PORT", str(server.sockets[0].getsockname()[1]))
    async with server:
        yield


def of(api):
    return Reachable(api, namespace="ns", service="snapshot-webhook", configuration="snapshot-ns", pod="a")


async def test_it_is_reached_with_the_injected_bundle(authority, tmp_path, monkeypatch, caplog):
    caplog.set_level("INFO")
    found = of(Api(authority.certificate))
    async with service(authority, tmp_path, monkeypatch):
        await found.run()

    assert found.problem is None
    assert "reached through Service snapshot-webhook" in caplog.text


async def test_a_bundle_of_another_authority_reaches_nothing(authority, tmp_path, monkeypatch):
    """And it goes on looking: the bundle may follow."""
    other = mint_authority("other", datetime.now(UTC), timedelta(days=1))
    api = Api(other.certificate, [[endpoint("b", ready=True), endpoint("a")]])
    found = of(api)
    async with service(authority, tmp_path, monkeypatch):
        task = asyncio.create_task(found.run())
        async with asyncio.timeout(10):
            await api.asked_often.wait()
            assert "not reached through the Service" in found.problem
            api.bundle = authority.certificate
            await task

    assert found.problem is None


async def test_the_first_is_ready_without_being_reached(authority, monkeypatch):
    monkeypatch.setenv("SNAPSHOT_WEBHOOK_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("SNAPSHOT_WEBHOOK_SERVICE_PORT", "1")
    found = of(Api(authority.certificate, [[endpoint("a")]]))
    await found.run()

    assert found.problem is None


async def test_with_the_roles_of_an_older_release_it_is_as_before(caplog):
    found = of(Api(error=ForbiddenError(403, "Forbidden", "may not")))
    await found.run()

    assert found.problem is None
    assert "`helm upgrade` renews the roles" in caplog.text


async def test_an_api_server_in_trouble_is_asked_again(authority, tmp_path, monkeypatch):
    api = Api(authority.certificate, error=ServerUnavailableError(503, "ServiceUnavailable", "later"))
    found = of(api)
    async with service(authority, tmp_path, monkeypatch):
        task = asyncio.create_task(found.run())
        async with asyncio.timeout(10):
            await api.asked_often.wait()
            api.error = None
            await task

    assert found.problem is None
