"""Keys: once, one at a time, later after a failure, fair."""

import asyncio
import itertools

from kube.errors import ServerUnavailableError, TooManyRequestsError
from kube.queue import LONGEST_BACKOFF, WorkQueue
from tests.support.virtual_time import now, run


def work(handle, *keys, workers=2, seconds=1000.0, later=()):
    """Handle *keys* and what follows from them for *seconds*; *later* are (seconds, key) to add on the way."""

    async def scenario():
        queue = WorkQueue()
        for key in keys:
            queue.add(key)
        for delay, key in later:
            asyncio.get_running_loop().call_later(delay, queue.add, key)
        runner = asyncio.create_task(queue.run(lambda key: handle(queue, key), workers))
        await asyncio.sleep(seconds)
        runner.cancel()
        await asyncio.wait([runner])

    run(scenario())


def test_a_key_that_waits_is_not_added_twice():
    seen = []

    async def handle(_, key):
        seen.append(key)

    work(handle, "a", "a", "b", "a")

    assert ["a", "b"] == seen


def test_one_key_is_handled_by_one_worker_at_a_time_and_again_when_it_changed_meanwhile():
    running, peak, runs = 0, 0, 0

    async def handle(queue, key):
        nonlocal running, peak, runs
        running += 1
        runs += 1
        peak = max(peak, running)
        if runs == 1:
            queue.add(key)
            queue.add(key)
        await asyncio.sleep(1)
        running -= 1

    work(handle, "a", workers=4)

    assert (1, 2) == (peak, runs)


def test_different_keys_run_side_by_side_up_to_the_number_of_workers():
    running, peak = 0, 0

    async def handle(_, key):
        nonlocal running, peak
        running += 1
        peak = max(peak, running)
        await asyncio.sleep(1)
        running -= 1

    work(handle, *range(10), workers=3)

    assert 3 == peak


def test_failures_back_off_and_success_forgets_them():
    times = []

    async def handle(_, key):
        times.append(now())
        if len(times) < 14:
            raise ServerUnavailableError("down")

    work(handle, "a", seconds=10_000)
    pauses = [after - before for before, after in itertools.pairwise(times)]

    assert 14 == len(times)
    assert 0.07 < pauses[0] <= 0.1
    assert all(pause <= LONGEST_BACKOFF for pause in pauses)
    assert LONGEST_BACKOFF * 0.75 <= pauses[-1]


def test_an_unexpected_error_is_retried_like_any_other(caplog):
    runs = []

    async def handle(_, key):
        runs.append(key)
        if len(runs) == 1:
            raise KeyError("bug")

    work(handle, "a")

    assert ["a", "a"] == runs
    assert "unexpected error" in caplog.text


def test_a_servers_retry_after_is_obeyed():
    times = []

    async def handle(_, key):
        times.append(now())
        if len(times) == 1:
            error = TooManyRequestsError(429, "TooManyRequests", "slow down")
            error.retry_after = 7.0
            raise error

    work(handle, "a")

    assert 7.0 <= times[1] - times[0] < 8


def test_a_key_comes_back_when_it_asked_to():
    times = []

    async def handle(_, key):
        times.append(now())
        return 30.0 if len(times) == 1 else None

    work(handle, "a")

    assert 30.0 == times[1] - times[0]
    assert 2 == len(times)


def test_a_change_does_not_wait_for_the_asked_time_and_replaces_it():
    times = []

    async def handle(_, key):
        times.append(now())
        return 30.0 if len(times) == 1 else None

    work(handle, "a", later=[(5.0, "a")])

    assert [5.0] == [after - before for before, after in itertools.pairwise(times)]


def test_the_earliest_wish_counts():
    async def scenario():
        queue, times = WorkQueue(), []
        queue.add_after("a", 50)
        queue.add_after("a", 20)
        queue.add_after("a", 40)

        async def handle(_):
            times.append(now())

        begin = now()
        runner = asyncio.create_task(queue.run(handle, 1))
        await asyncio.sleep(100)
        runner.cancel()
        await asyncio.wait([runner])
        return [time - begin for time in times]

    assert [20.0] == run(scenario())


def test_a_noisy_key_does_not_starve_the_others():
    order = []

    async def handle(queue, key):
        order.append(key)
        if key == "noisy" and len(order) < 6:
            queue.add("noisy")
        await asyncio.sleep(0)

    work(handle, "noisy", "b", "c", workers=1)

    assert ["noisy", "b", "c"] == order[:3]
