"""R21: a bad day of the API server.  A tenth of the stated time; what must hold afterwards holds in full."""

import asyncio
from uuid import uuid4

from kube.resources import CHECKPOINTS, JOBS, NAMESPACES
from tests.support.chaos_proxy import Proxy, Trouble
from tests.support.fixtures.controller import Processes, Scene, counted
from tests.support.waiting import eventually

TOTAL = 60
HEALED_SECONDS = 30.0
LISTS_PER_MINUTE = 5
DAY = (
    ("watches cut every half second, one call in five refused", 6.0, Trouble(watch_seconds=0.5, unavailable=0.2)),
    ("a quarter throttled", 4.0, Trouble(throttled=0.25)),
    ("every version expired", 4.0, Trouble(expired=True)),
    ("a partition", 6.0, Trouble(partition=True)),
)


async def test_all_is_well_half_a_minute_after_a_bad_day(checkpoint_plane, kube, tmp_path):
    """Sixty checkpoints arrive meanwhile: each gets its one Job, and the lists stay few."""
    namespace = f"trouble-{uuid4().hex[:8]}"
    await kube.create(NAMESPACES, {"metadata": {"name": namespace}})
    proxy = Proxy(checkpoint_plane)
    async with proxy.serving(tmp_path, checkpoint_plane) as kubeconfig:
        controllers = Processes(kubeconfig, namespace, tmp_path)
        scene = Scene(kube, namespace, controllers)
        try:
            async with counted(scene, JOBS) as (appeared, went):
                controllers.start()
                await scene.make("first", identity={"model": "first", "backendFramework": "vllm"})
                await scene.phase("Creating", "first")
                proxy.lists.clear()
                making = asyncio.create_task(arrive(scene))
                spent = await bad_day(proxy)
                proxy.trouble = Trouble()
                await making
                await eventually(
                    lambda: all_creating(scene),
                    lambda: f"all Creating; logs:\n{controllers.logs()[-3000:]}",
                    HEALED_SECONDS,
                )
        finally:
            controllers.end()

    assert TOTAL + 1 == len(appeared) == len(set(appeared))
    assert [] == went
    # The log says why it listed; a minute's allowance is meant for each kind, whatever the day was like.
    allowed = LISTS_PER_MINUTE * max(1.0, spent / 60) + 1
    assert {} == {plural: count for plural, count in proxy.lists.items() if count > allowed}


async def arrive(scene):
    for number in range(TOTAL):
        await scene.make(f"c{number}", identity={"model": f"m{number}", "backendFramework": "vllm"})
        await asyncio.sleep(0.25)


async def bad_day(proxy):
    started = asyncio.get_running_loop().time()
    for _, seconds, trouble in DAY:
        proxy.trouble = trouble
        if trouble.partition:
            proxy.cut()
        await asyncio.sleep(seconds)
    return asyncio.get_running_loop().time() - started


async def all_creating(scene):
    found = (await scene.kube.list(CHECKPOINTS, scene.namespace)).items
    phases = {each.get("status", {}).get("phase") for each in found}
    jobs = (await scene.kube.list(JOBS, scene.namespace)).items
    return len(found) == len(jobs) == TOTAL + 1 and phases == {"Creating"}
