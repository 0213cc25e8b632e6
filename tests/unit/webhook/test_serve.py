"""The server as it runs, over TLS on loopback: both ways of a request, and the end."""

import asyncio
import io
import json
import ssl
from datetime import UTC, datetime, timedelta

import aiohttp
import pytest
from prometheus_client import CollectorRegistry

from certs.mint import issue_leaf, mint_authority
from certs.serve import ServingContext
from contract.config.values import load_values
from tests.support.builders.objects import opted_in, ready, review
from webhook import server as app
from webhook.metrics import Metrics
from webhook.server import PATH, Edge, serve

NOW = datetime.now(tz=UTC)
DAY = timedelta(days=1)
NAME = "snap-webhook.ns.svc"
REVIEW = json.dumps(review(opted_in())).encode()


@pytest.fixture
def impatient(monkeypatch):
    """Requests must arrive at once."""
    monkeypatch.setattr(app, "REQUEST_SECONDS", 0.05)


@pytest.fixture
async def listening(tmp_path, monkeypatch, unused_tcp_port):
    """The edge, the client's session and the server's address."""
    monkeypatch.setattr(app, "DRAIN_SECONDS", 0)
    authority = mint_authority("snap", NOW, 10 * DAY)
    leaf = issue_leaf(authority, (NAME,), NOW, DAY)
    (tmp_path / "tls.crt").write_text(leaf.certificate)
    (tmp_path / "tls.key").write_text(leaf.key)
    serving = ServingContext(tmp_path)
    serving.refresh()
    edge = Edge(lambda *_: ready(), load_values(""), Metrics(CollectorRegistry()))
    server = asyncio.create_task(serve(edge, serving.context, host="127.0.0.1", port=unused_tcp_port))
    while not edge.listening:  # noqa: ASYNC110 - nobody but this test waits for it
        await asyncio.sleep(0)
    trust = ssl.create_default_context(cadata=authority.certificate)
    connector = aiohttp.TCPConnector(limit=1, ssl=trust)
    async with aiohttp.ClientSession(connector=connector) as session:
        yield edge, session, f"https://127.0.0.1:{unused_tcp_port}", server
    server.cancel()
    await asyncio.gather(server, return_exceptions=True)


async def post(session, url, body):
    async with session.post(url, data=body, server_hostname=NAME) as answer:
        return answer.status, await answer.read(), answer.headers


async def test_both_ways_of_a_request_give_the_same_answer(listening):
    """Plain, then chunked, then plain again, over one connection."""
    _, session, server, _ = listening
    answers = [await post(session, server + PATH + "?timeout=2s", REVIEW)]
    answers += [await post(session, server + PATH, io.BytesIO(REVIEW)), await post(session, server + PATH, REVIEW)]
    assert [200] * 3 == [status for status, _, _ in answers]
    assert len({body for _, body, _ in answers}) == 1
    assert ["application/json"] * 3 == [headers["Content-Type"] for _, _, headers in answers]


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        pytest.param(PATH, b"{", 400, id="not-json"),
        pytest.param("/other", b"{}", 404, id="other-path"),
    ],
)
async def test_refusals_come_whole(listening, path, body, status):
    _, session, server, _ = listening
    assert status == (await post(session, server + path, body))[0]


async def stalled(server, head):
    """The status line for a request that stops in the middle, empty where the connection ends without one."""
    trust = ssl.create_default_context()
    trust.check_hostname, trust.verify_mode = False, ssl.CERT_NONE
    host, port = server.removeprefix("https://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port), ssl=trust)
    writer.write(head)
    try:
        return await reader.read(len(b"HTTP/1.1 408"))
    except ConnectionResetError:
        return b""
    finally:
        writer.close()


@pytest.mark.parametrize(
    ("expected", "head"),
    [
        pytest.param(b"", b"POST %b HTTP/1.1\r\nHost: w\r\nContent-Length: 9\r\n\r\nhalf", id="plain"),
        pytest.param(
            b"HTTP/1.1 408",
            b"POST %b HTTP/1.1\r\nHost: w\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nhalf",
            id="chunked",
        ),
    ],
)
async def test_a_request_that_never_arrives_is_given_up(impatient, listening, expected, head):
    edge, _, server, _ = listening
    answer = await stalled(server, head % PATH.encode())
    assert expected == answer
    (counter,) = edge.metrics.refusals["too-slow"].collect()
    assert 1 == counter.samples[0].value


async def test_a_stopping_server_closes_idle_connections(listening):
    _, session, server, task = listening
    await post(session, server + PATH, REVIEW)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    with pytest.raises(aiohttp.ClientConnectionError):
        await post(session, server + PATH, REVIEW)


async def test_a_draining_server_answers_and_asks_to_connect_anew(listening):
    edge, session, server, _ = listening
    await post(session, server + PATH, REVIEW)
    edge.draining = True
    status, _, headers = await post(session, server + PATH, REVIEW)
    assert 200 == status
    assert "close" == headers["Connection"]
