"""Leadership: one at a time, handed over at once, never two."""

import asyncio
import itertools
from datetime import UTC, datetime

import pytest

from contract.api.times import format_micro_time, parse_time
from kube.errors import ServerUnavailableError
from kube.lease import LEASE_SECONDS, RENEW_DEADLINE, Election, LeadershipLostError
from tests.support.fake_kube import OneObject
from tests.support.virtual_time import now, run


class Candidate:
    """Runs an election in a task and keeps the times in which it led."""

    def __init__(self, kube, name):
        self.election = Election(kube, "ns", "lease", name)
        self.led = []
        self.task = asyncio.create_task(self.election.run(self._lead))

    async def _lead(self):
        self.led.append([now(), None])
        try:
            await asyncio.sleep(100_000)
        finally:
            self.led[-1][1] = now()

    async def stop(self):
        self.task.cancel()
        await asyncio.wait([self.task])


def test_creates_the_lease_and_leads():
    async def scenario():
        kube = OneObject()
        first = Candidate(kube, "one")
        await asyncio.sleep(60)
        spec = dict(kube.object["spec"])
        await first.stop()
        return first, spec

    first, spec = run(scenario())

    assert 1 == len(first.led)
    assert ("one", LEASE_SECONDS, 0) == (spec["holderIdentity"], spec["leaseDurationSeconds"], spec["leaseTransitions"])


def test_hands_over_within_three_seconds_of_a_shutdown():
    async def scenario():
        kube = OneObject()
        first = Candidate(kube, "one")
        await asyncio.sleep(1)
        second = Candidate(kube, "two")
        await asyncio.sleep(30)
        await first.stop()
        stopped = now()
        await asyncio.sleep(30)
        await second.stop()
        return first, second, stopped

    first, second, stopped = run(scenario())

    assert second.led[0][0] - stopped <= 3
    assert first.led[0][1] <= second.led[0][0]


@pytest.mark.parametrize("dies", [pytest.param(True, id="dead"), pytest.param(False, id="shut down")])
def test_the_next_knows_when_the_one_before_last_said_that_it_led(dies):
    began = datetime.now(UTC)

    async def scenario():
        kube = OneObject()
        first = Candidate(kube, "one")
        await asyncio.sleep(5)
        if dies:
            first.election._write = never
        await first.stop()
        last = kube.object["spec"]["renewTime"]
        second = Candidate(kube, "two")
        await asyncio.sleep(60)
        await second.stop()
        return first.election.led_until, format_micro_time(second.election.led_until), last

    nobody, known, last = run(scenario())

    # There is no leader before the first: what happens between its beginning and its work is its own business too.
    assert began <= nobody <= parse_time(last)
    assert last == known


async def never(*_):
    raise ServerUnavailableError("the process has ended")


def test_the_release_comes_after_the_work_has_ended():
    async def scenario():
        kube, ended = OneObject(), []

        async def lead():
            try:
                await asyncio.sleep(1000)
            finally:
                ended.append(kube.object["spec"]["holderIdentity"])

        task = asyncio.create_task(Election(kube, "ns", "lease", "one").run(lead))
        await asyncio.sleep(5)
        task.cancel()
        await asyncio.wait([task])
        return ended, kube.object["spec"]["holderIdentity"]

    assert (["one"], "") == run(scenario())


def test_a_dead_leaders_lease_is_taken_after_its_duration_and_not_before():
    async def scenario():
        kube = OneObject()
        first = Candidate(kube, "one")
        await asyncio.sleep(5)
        # Killed: no release, no renewal any more.
        first.election._kube = None
        first.task.cancel()
        await asyncio.wait([first.task])
        died = now()
        second = Candidate(kube, "two")
        await asyncio.sleep(60)
        await second.stop()
        return second.led[0][0] - died, kube.object["spec"]["leaseTransitions"]

    waited, transitions = run(scenario())

    assert LEASE_SECONDS - 2 <= waited <= LEASE_SECONDS + 2
    assert 1 == transitions


def test_a_leader_that_cannot_renew_stops_before_its_lease_may_be_taken():
    async def scenario():
        kube = OneObject()
        first = Candidate(kube, "one")
        await asyncio.sleep(20)
        kube.fail = ServerUnavailableError("partition")
        failed = now()
        await asyncio.wait([first.task])
        return first, failed

    first, failed = run(scenario())

    assert first.led[0][1] - failed <= RENEW_DEADLINE + 0.1
    assert isinstance(first.task.exception().exceptions[0], LeadershipLostError)


def test_a_short_outage_is_survived():
    async def scenario():
        kube = OneObject()
        first = Candidate(kube, "one")
        await asyncio.sleep(20)
        kube.fail = ServerUnavailableError("restart")
        await asyncio.sleep(6)
        kube.fail = None
        await asyncio.sleep(60)
        led = list(first.led[0])
        await first.stop()
        return led

    assert run(scenario())[1] is None


def test_a_lease_taken_by_another_ends_the_work_at_once():
    async def scenario():
        kube = OneObject()
        first = Candidate(kube, "one")
        await asyncio.sleep(5)
        kube._store({**kube.object, "spec": kube.object["spec"] | {"holderIdentity": "thief"}})
        taken = now()
        await asyncio.wait([first.task])
        return first.led[0][1] - taken, kube.object["spec"]["holderIdentity"]

    seconds, holder = run(scenario())

    assert seconds <= 2
    assert "thief" == holder


def test_a_failing_leader_gives_the_lease_back():
    async def scenario():
        kube = OneObject()

        async def lead():
            await asyncio.sleep(1)
            raise ValueError("broken")

        with pytest.raises(ExceptionGroup, match="unhandled"):
            await Election(kube, "ns", "lease", "one").run(lead)
        return kube.object["spec"]["holderIdentity"]

    assert "" == run(scenario())


def test_never_two_leaders_among_many_that_come_and_go():
    async def scenario():
        kube, terms = OneObject(), []
        candidates = [Candidate(kube, f"c{number}") for number in range(5)]
        for round_ in range(30):
            await asyncio.sleep(7)
            victim = candidates[round_ % 5]
            await victim.stop()
            terms += victim.led
            candidates[round_ % 5] = Candidate(kube, f"c{round_ + 5}")
        for candidate in candidates:
            await candidate.stop()
            terms += candidate.led
        return sorted(terms)

    terms = run(scenario())

    assert len(terms) > 5
    assert all(before[1] <= after[0] for before, after in itertools.pairwise(terms))
