"""Waiting for what another process does, without a notice of when."""

import asyncio
import time

import pytest

from cluster.errors import CommandError

PATIENCE = 90.0
"""Seconds: many times what is needed, for a machine that does much else."""


def until(look, what):
    """Wait for the first true answer of *look*, which may fail until then, and return it."""
    deadline, last = time.monotonic() + PATIENCE, None
    while time.monotonic() < deadline:
        try:
            if found := look():
                return found
        except (AssertionError, CommandError) as error:
            last = error
        time.sleep(0.02)
    pytest.fail(f"{what() if callable(what) else what}: not within {PATIENCE:.0f} s; last: {last}")


async def eventually(look, what, seconds=PATIENCE):
    """Wait for the first answer of *look* that is not None or empty, and return it."""
    try:
        async with asyncio.timeout(seconds):
            while not (found := await look()):  # noqa: ASYNC110 - what is waited for is another process's doing
                await asyncio.sleep(0.02)
    except TimeoutError:
        pytest.fail(f"did not happen within {seconds} s: {what() if callable(what) else what}")
    return found
