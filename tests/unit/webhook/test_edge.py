import io
import json

import pytest
from aiohttp.test_utils import RawTestServer, TestClient
from prometheus_client import CollectorRegistry

from contract.config.values import load_values
from tests.support.builders.objects import opted_in, ready, review
from webhook import server as app
from webhook.metrics import Metrics
from webhook.server import BODY_LIMIT, PATH, Edge


@pytest.fixture
def registry():
    return CollectorRegistry()


@pytest.fixture
def edge(registry):
    return Edge(lambda *_: ready(), load_values(""), Metrics(registry))


@pytest.fixture
async def client(edge):
    server = RawTestServer(edge.handle)
    await server.start_server(request_factory=app._request)
    async with TestClient(server) as made:
        yield made


async def test_a_review_is_answered(client, registry):
    answer = await client.post(PATH, json=review(opted_in()))
    assert 200 == answer.status
    assert "application/json" == answer.content_type
    told = await answer.json()
    assert "0b5d" == told["response"]["uid"]
    assert 1 == registry.get_sample_value("snapshot_admission_decisions_total", {"code": "restore-shaped"})
    assert 1 == registry.get_sample_value("snapshot_admission_decision_seconds_count")


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "message"),
    [
        pytest.param("POST", PATH, b"{", 400, "the body is not JSON", id="not-json"),
        pytest.param("POST", "/other", b"{}", 404, PATH, id="other-path"),
        pytest.param("GET", PATH, b"", 405, "POST only", id="get"),
        pytest.param("POST", PATH, b" " * (BODY_LIMIT + 1), 413, str(BODY_LIMIT), id="too-large"),
    ],
)
async def test_refusals_say_why(client, method, path, body, status, message):
    answer = await client.request(method, path, data=io.BytesIO(body))
    assert status == answer.status
    assert message in await answer.text()


async def test_the_largest_review_is_read(client):
    body = json.dumps(review(opted_in())).encode()
    answer = await client.post(PATH, data=io.BytesIO(body.ljust(BODY_LIMIT)))
    assert 200 == answer.status


async def test_a_bug_is_an_error_not_a_denial(client, edge, registry):
    """The failure policy then decides, by default for a cold start."""

    def broken(*_):
        raise RuntimeError("bug")

    edge.lookup = broken
    answer = await client.post(PATH, json=review(opted_in()))
    assert 500 == answer.status
    assert 1 == registry.get_sample_value("snapshot_admission_refusals_total", {"reason": "error"})


async def test_while_draining_clients_are_asked_to_connect_anew(client, edge):
    edge.draining = True
    answer = await client.post(PATH, json=review(opted_in()))
    assert 200 == answer.status
    assert "close" == answer.headers["Connection"]


def test_every_code_has_its_series_from_the_start(edge, registry):
    assert isinstance(edge, Edge)
    assert 0 == registry.get_sample_value("snapshot_admission_decisions_total", {"code": "image-mismatch"})
    assert 0 == registry.get_sample_value("snapshot_admission_refusals_total", {"reason": "too-large"})
