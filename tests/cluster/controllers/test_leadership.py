"""R2: who leads, and how soon somebody else does.  Leases expire here as they do in a cluster."""

import asyncio
import signal
import time

import pytest

from kube.errors import NotFoundError
from kube.resources import JOBS, LEASES
from tests.support.fixtures.controller import LEASE, checkpoints_in, counted
from tests.support.waiting import PATIENCE, eventually

KILLED_SECONDS = 20.0
RELEASED_SECONDS = 3.0
ARRIVALS = 40


@pytest.fixture
async def scene(checkpoint_plane, kube, tmp_path):
    async with checkpoints_in(checkpoint_plane, kube, "leadership", tmp_path) as found:
        yield found


async def leader(scene):
    """The process that holds the Lease, once one does."""

    async def holder():
        try:
            name = (await scene.kube.get(LEASES, LEASE, scene.namespace))["spec"].get("holderIdentity") or ""
        except NotFoundError:
            return None
        return next((each for each in scene.controllers.running if name.startswith(each.pod_name)), None)

    return await eventually(holder, "a leader")


async def another(scene, old, seconds):
    """How long it takes until somebody else leads."""
    started = time.monotonic()

    async def changed():
        found = await leader(scene)
        return found if found is not old else None

    found = await eventually(changed, f"another leader; logs:\n{scene.controllers.logs()[-2000:]}", seconds + 5)
    return found, time.monotonic() - started


async def arrive(scene):
    for number in range(ARRIVALS):
        await scene.make(f"c{number}", identity={"model": f"m{number}", "backendFramework": "vllm"})
        await asyncio.sleep(0.5)


async def test_a_dead_a_retired_and_a_frozen_leader(scene):
    """Killed: followed within 20 s.  Told to stop: within 3 s.  Frozen past its Lease: it does nothing more."""
    for _ in range(4):
        scene.controllers.start()
    first = await leader(scene)
    async with counted(scene, JOBS) as (appeared, went):
        arriving = asyncio.create_task(arrive(scene))
        first.kill()
        second, after_kill = await another(scene, first, KILLED_SECONDS)
        second.send_signal(signal.SIGTERM)
        third, after_term = await another(scene, second, RELEASED_SECONDS)
        third.send_signal(signal.SIGSTOP)
        _, after_freeze = await another(scene, third, KILLED_SECONDS)
        third.send_signal(signal.SIGCONT)
        code = await asyncio.to_thread(third.wait, PATIENCE)
        await arriving
        for number in range(ARRIVALS):
            await scene.phase("Creating", f"c{number}")

    assert after_kill <= KILLED_SECONDS
    assert after_term <= RELEASED_SECONDS
    assert after_freeze <= KILLED_SECONDS
    # A leader that finds its Lease taken ends, and kubelet starts it afresh.
    assert 0 != code
    assert ARRIVALS == len(appeared) == len(set(appeared))
    assert [] == went
