"""Tasks live and die together."""

import asyncio
import os
import signal

import pytest

from daemon.settings import SettingsError
from daemon.tasks import EXIT_CONFIG, TaskEndedError, leaves, main, run_together


async def forever():
    await asyncio.Event().wait()


async def broken():
    raise ValueError("broken")


async def ends():
    await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("task", "error"), [pytest.param(broken, ValueError, id="fails"), pytest.param(ends, TaskEndedError, id="returns")]
)
async def test_one_that_ends_takes_the_others_along(task, error):
    cancelled = []

    async def other():
        try:
            await forever()
        finally:
            cancelled.append("other")

    with pytest.raises(ExceptionGroup) as caught:
        await run_together({"one": task, "other": other})

    assert [error] == [type(leaf) for leaf in leaves(caught.value)]
    assert ["other"] == cancelled


@pytest.mark.parametrize("number", [pytest.param(signal.SIGTERM, id="term"), pytest.param(signal.SIGINT, id="int")])
async def test_a_signal_ends_all_in_order(number):
    cleaned = []

    async def task():
        try:
            os.kill(os.getpid(), number)
            await forever()
        finally:
            await asyncio.sleep(0)
            cleaned.append("up")

    await run_together({"task": task})

    assert ["up"] == cleaned


def test_exit_codes(capsys, caplog):
    async def misconfigured():
        raise SettingsError(["POD_NAME: must be set", "B: too"])

    assert 0 == main(ends)
    assert EXIT_CONFIG == main(misconfigured)
    assert "error: POD_NAME: must be set\nerror: B: too\n" == capsys.readouterr().err
    assert 1 == main(broken)
    assert "ValueError: broken" in caplog.text
