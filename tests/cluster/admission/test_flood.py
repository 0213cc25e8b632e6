"""R4: the webhook under a flood: others' big or slow requests must not delay a pod, nor use up its connections."""

import asyncio
import io
import json
import os
import resource
import ssl
import time
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import aiohttp
import pytest

from tests.cluster.admission.test_admission import Webhook
from tests.support.builders.objects import opted_in, review
from tests.support.waiting import until
from webhook.server import BODY_LIMIT, PATH

MIB = 2**20
SLOW_CONNECTIONS = 1000
HANDSHAKES = 50
"""Under way at once."""
BIG_SENDERS = 10
BIG_PAUSE = 0.2
"""Seconds between one sender's reviews: clients and server share this machine, and the client must not be measured."""
SECONDS = 5.0
RATE = 50.0
"""Normal requests a second, one after the other's answer."""
P99_SECONDS = 0.1
BUSY_RATIO = 5
RSS_LIMIT = 256 * MIB
DEEP = 20_000
OPEN_FILES = 256
"""The soft limit that the webhook is started with: low, as some container runtimes have it (1,024)."""


@pytest.fixture(scope="module")
def flooded(checkpoint_plane, tmp_path_factory):
    """A webhook whose namespace need not exist: it asks for nothing but its own copy of checkpoints."""
    with open_files(OPEN_FILES):
        found = Webhook(checkpoint_plane, "default", tmp_path_factory.mktemp("webhook"))
    found.authority.issue()
    try:
        until(found.ready, found.log)
        yield found
    finally:
        found.end()


def padded(size):
    """A review of about *size* bytes."""
    pod = opted_in(name="none")
    pod["metadata"]["annotations"]["example.test/padding"] = "x" * size
    return json.dumps(review(pod)).encode()


def rss(pid):
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGESIZE")


@contextmanager
def open_files(soft):
    """Another soft limit of open files, for this process and those that it starts."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


@asynccontextmanager
async def slow_connections(webhook, context):
    """Clients that finish the handshake, begin a request, and never end it."""
    head = f"POST {PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5000\r\n\r\n{{".encode()
    writers, turn = [], asyncio.Semaphore(HANDSHAKES)

    async def begin():
        async with turn:
            _, writer = await asyncio.open_connection("localhost", webhook.port, ssl=context)
        writers.append(writer)
        writer.write(head)

    with open_files(resource.getrlimit(resource.RLIMIT_NOFILE)[1]):
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(SLOW_CONNECTIONS):
                    group.create_task(begin())
            yield
        finally:
            for writer in writers:
                writer.transport.abort()
            await asyncio.gather(*(writer.wait_closed() for writer in writers), return_exceptions=True)


async def send_big(session, webhook, until_time, answered):
    body = padded(3 * MIB)
    while time.monotonic() < until_time:
        async with session.post(webhook.url, data=io.BytesIO(body)) as answer:
            await answer.read()
            answered.append(answer.status)
        await asyncio.sleep(BIG_PAUSE)


async def send_normal(session, webhook, until_time):
    """Seconds of each request, at a steady pace."""
    body, found = padded(10), []
    while (started := time.monotonic()) < until_time:
        async with session.post(webhook.url, data=body) as answer:
            assert 200 == answer.status
            await answer.read()
        found.append(time.monotonic() - started)
        await asyncio.sleep(max(0.0, 1 / RATE - found[-1]))
    return found


def p99_of(times):
    return sorted(times)[int(len(times) * 0.99)]


async def test_a_flood_does_not_delay_a_pod(flooded, figure):
    context = ssl.create_default_context(cadata=flooded.authority.bundle)
    answered = []
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as session:
        quiet = p99_of(await send_normal(session, flooded, time.monotonic() + SECONDS / 4))
        async with slow_connections(flooded, context), asyncio.TaskGroup() as group:
            end = time.monotonic() + SECONDS
            for _ in range(BIG_SENDERS):
                group.create_task(send_big(session, flooded, end, answered))
            normal = group.create_task(send_normal(session, flooded, end))
        # What else the machine does may have begun meanwhile.
        quiet = max(quiet, p99_of(await send_normal(session, flooded, time.monotonic() + SECONDS / 4)))
    times, p99 = normal.result(), p99_of(normal.result())
    memory = rss(flooded.process.pid)
    figure(
        f"{len(times)} normal reviews, p99 {p99 * 1e3:.1f} ms ({quiet * 1e3:.1f} ms without), "
        f"beside {SLOW_CONNECTIONS} connections that hang and {len(answered)} reviews of 3 MiB in {SECONDS:.0f} s; "
        f"{memory / MIB:.0f} MiB resident"
    )

    assert {200} == set(answered)
    # A machine that others keep busy delays reviews without any flood.
    assert p99 <= max(P99_SECONDS, BUSY_RATIO * quiet)
    assert memory <= RSS_LIMIT


@pytest.mark.parametrize(
    ("status", "body"),
    [
        pytest.param(200, padded(7 * MIB - 4096), id="seven MiB"),
        pytest.param(413, padded(BODY_LIMIT), id="above the limit"),
        pytest.param(400, b'{"a":' * DEEP + b"1" + b"}" * DEEP, id="nested without end"),
        pytest.param(400, b"\xff" * MIB, id="not text"),
        pytest.param(400, b"", id="empty"),
    ],
)
def test_large_and_odd_bodies(flooded, status, body):
    found, _ = flooded.post(body)

    assert status == found
    assert 200 == flooded.post(padded(10))[0]
