"""The health port reports the truth, part by part."""

import asyncio
from contextlib import asynccontextmanager

import aiohttp
from prometheus_client import CollectorRegistry, Counter

from daemon.health import HealthServer


@asynccontextmanager
async def serving(checks, registry=None):
    server = HealthServer(0, checks, registry)
    task = asyncio.create_task(server.run())
    await server.listening.wait()
    async with aiohttp.ClientSession(f"http://127.0.0.1:{server.port}") as session:
        yield session
    task.cancel()
    await asyncio.wait([task])


async def test_ready_only_when_every_part_is():
    problem = "not listed yet"
    async with serving({"jobs": lambda: problem, "pods": lambda: None}) as session:
        async with session.get("/readyz") as answer:
            assert (503, {"status": "not ready", "problems": {"jobs": "not listed yet"}}) == (
                answer.status,
                await answer.json(),
            )
        problem = None
        async with session.get("/readyz") as answer:
            assert 200 == answer.status


async def test_alive_though_not_ready():
    async with serving({"jobs": lambda: "no"}) as session, session.get("/healthz") as answer:
        assert 200 == answer.status


async def test_metrics_are_those_of_the_registry():
    registry = CollectorRegistry()
    Counter("things", "Things.", registry=registry).inc()
    async with serving({}, registry) as session, session.get("/metrics") as answer:
        assert "things_total 1.0" in await answer.text()


async def test_without_metrics_there_is_no_such_page():
    async with serving({}) as session, session.get("/metrics") as answer:
        assert 404 == answer.status
