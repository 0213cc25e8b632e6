"""PyTorch workers that are parked beside others on one card, and woken; run by `make test-gpu`."""

import time

import pytest

from contract.api import keys
from contract.api.reports import ReportPhase
from tests.gpu.containers import OUTSIDE, PROBE, ready, start, used_by_workers, words
from tests.support.fixtures.bare_container import wait_for
from tests.support.fixtures.engine import Node
from tests.support.fixtures.runc_container import RuncContainer

pytestmark = pytest.mark.gpu

CASES = [pytest.param({}, 0.9, id="image"), pytest.param(OUTSIDE, 0.7, id="outside")]
"""Seconds from the request to the first answer that is right: 0.69 and 0.53 were seen on an H200; 0.35 is wanted."""


@pytest.mark.parametrize(("env", "limit"), CASES)
async def test_a_parked_worker_holds_no_device_memory_and_wakes_at_once(node: Node, figure, env, limit, request):
    """Meanwhile a worker that needs nearly all of the card runs on it, and ends."""
    name = f"parked-{request.node.callspec.id}"
    captured = await node.capture(ready(node, user=1000, env=env), name, probe=PROBE)
    assert captured.ok, captured.message
    twin = start(node, RuncContainer, user=1000)
    twin.init()
    assert (await node.restore(twin, name, captured.manifest_digest)).ok
    expected = [wait_for(twin.get, "an answer"), twin.get()]
    twin.close()
    node.containers.remove(twin)
    helper = node.environment.gpus
    wait_for(lambda: not used_by_workers(node), "device memory free")
    free = helper.devices()[0].free

    target = start(node, RuncContainer, keys.STANDBY_PARK, user=1000)
    target.init()
    parked = await node.restore(target, name, captured.manifest_digest, parks=True)
    assert (True, True) == (parked.ok, parked.parked), parked
    figure(f"parked in {words(parked.seconds)}")
    assert set() == used_by_workers(node)
    assert free == helper.devices()[0].free
    large = ready(node, mebibytes=(free >> 20) - 4096)
    large.close()
    node.containers.remove(large)

    began = time.monotonic()
    woken = await node.restore(target, name, captured.manifest_digest)
    answer = wait_for(target.get, "an answer")
    seconds = time.monotonic() - began
    figure(f"first answer {seconds:.2f} s after the wake: {words(woken.seconds)}")

    assert (True, True) == (woken.ok, ReportPhase.GPU_RESTORE in woken.seconds), woken
    assert expected == [answer, target.get()]
    assert seconds <= limit
