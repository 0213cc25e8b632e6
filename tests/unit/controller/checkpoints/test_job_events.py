"""One look at a namespace's Events serves all its Jobs for some seconds."""

import asyncio

import pytest

from controller.checkpoints.diagnose.job_events import FRESH, JobEvents
from kube.api import Listing
from kube.errors import ServerUnavailableError


class Server:
    """Answers with one warning for each of a thousand Jobs, and counts how often it was asked."""

    def __init__(self):
        self.asked, self.error = [], None

    async def list(self, _, namespace=None, *, fields):
        assert "type=Warning" in fields
        self.asked.append(namespace)
        await asyncio.sleep(0)
        if self.error is not None:
            raise self.error
        return Listing(tuple(warning(f"job-{number}", len(self.asked)) for number in range(1000)), "1")


def warning(job, message):
    return {"metadata": {"managedFields": []}, "involvedObject": {"name": job}, "message": f"{job} {message}"}


@pytest.fixture
def server():
    return Server()


@pytest.fixture
def clock():
    return [100.0]


@pytest.fixture
def events(server, clock):
    return JobEvents(server, lambda: clock[0])


async def test_a_thousand_jobs_that_ask_at_once_cost_one_list(server, events):
    found = await asyncio.gather(*(events.of("ns", f"job-{number}") for number in range(1000)))

    assert ["ns"] == server.asked
    assert [f"job-{number} 1" for number in range(1000)] == [event["message"] for (event,) in found]


async def test_a_job_without_warnings_has_none(events):
    assert () == await events.of("ns", "quiet")


async def test_a_look_grows_old(server, events, clock):
    first = await events.of("ns", "job-1")
    clock[0] += FRESH - 0.1
    second = await events.of("ns", "job-1")
    clock[0] += 0.1
    third = await events.of("ns", "job-1")

    assert ["job-1 1", "job-1 1", "job-1 2"] == [event["message"] for (event,) in (first, second, third)]
    assert 2 == len(server.asked)


async def test_each_namespace_has_a_look_of_its_own(server, events):
    await events.of("a", "job-1")
    await events.of("b", "job-1")

    assert ["a", "b"] == server.asked


async def test_what_nobody_asks_for_any_more_is_forgotten(events, clock):
    """Thousands of warnings of each namespace that ever had a quota would be kept for ever."""
    for name in ("a", "b", "c"):
        await events.of(name, "job-1")
        clock[0] += FRESH

    assert ["c"] == list(events._looks)


async def test_a_failed_look_is_no_look(server, events):
    server.error = ServerUnavailableError("down")
    with pytest.raises(ServerUnavailableError):
        await events.of("ns", "job-1")
    server.error = None

    assert 1 == len(await events.of("ns", "job-1"))
