"""What a CUDA process can hold, kind by kind, without PyTorch; run by `make test-gpu`."""

import json
import time

import pytest

from contract.api.states import AgentReason
from tests.gpu.containers import OUTSIDE, PROBE, start, until_ready, words
from tests.support.fixtures.bare_container import wait_for
from tests.support.fixtures.runc_container import RuncContainer

pytestmark = pytest.mark.gpu

IMAGE: dict[str, str] = {}
KEPT = (
    "plain",
    "registered",
    "mapped",
    "pool",
    "array",
    "heap",
    "contexts",
    "graph",
    "events",
    "host-function",
    "released",
)


def started(node, *arguments, kind, env=IMAGE):
    return start(node, RuncContainer, *arguments, user=1000, script="kinds_worker.py", flags=(kind,), env=env)


@pytest.mark.parametrize(
    ("kind", "env"),
    [
        *[pytest.param(kind, IMAGE, id=f"{kind}-image") for kind in (*KEPT, "capturing")],
        *[pytest.param(kind, OUTSIDE, id=f"{kind}-outside") for kind in (*KEPT, "host-pieces")],
    ],
)
async def test_a_kind_of_state_is_kept(node, figure, kind, env, request):
    name = request.node.callspec.id
    source = until_ready(started(node, "--capture", kind=kind, env=env))
    steps = [json.loads(source.get()) for _ in range(3)]
    captured = await node.capture(source, name, probe=PROBE)
    assert captured.ok, (captured.message, source.text()[-2000:])
    target = started(node, kind=kind)
    target.init()
    begun = time.monotonic()
    restored = await node.restore(target, name, captured.manifest_digest)
    assert restored.ok, (restored, target.text())
    steps.append(json.loads(wait_for(target.get, "an answer")))
    figure(f"{words(restored.seconds)}; first answer after {time.monotonic() - begun:.2f} s")
    steps += [json.loads(target.get()) for _ in range(4)]
    assert [{step} for step in range(2, 10)] == [set(step) for step in steps]


@pytest.mark.parametrize(
    ("kind", "env", "reason", "words"),
    [
        pytest.param("managed", IMAGE, AgentReason.GPU_UNSUPPORTED, "CUDA_ERROR_NOT_SUPPORTED", id="managed-image"),
        pytest.param("managed", OUTSIDE, AgentReason.GPU_UNSUPPORTED, "CUDA_ERROR_NOT_SUPPORTED", id="managed-outside"),
        pytest.param("capturing", OUTSIDE, AgentReason.GPU_BUSY, "CUDA error 900", id="capturing-outside"),
        pytest.param("host-pieces", IMAGE, AgentReason.PROOF_FAILED, "CUDA_ERROR_UNKNOWN", id="host-pieces-image"),
    ],
)
async def test_a_kind_of_state_is_refused(node, figure, kind, env, reason, words, request):
    name = f"refused-{request.node.callspec.id}"
    captured = await node.capture(until_ready(started(node, "--capture", kind=kind, env=env)), name, probe=PROBE)
    figure(captured.message)
    assert (False, reason) == (captured.ok, captured.reason)
    assert words in captured.message
    assert not list(node.store.glob(f"{name}/versions/*"))


@pytest.mark.parametrize(
    ("kind", "env"),
    [
        pytest.param("managed", IMAGE, id="managed-image"),
        pytest.param("managed", OUTSIDE, id="managed-outside"),
        pytest.param("capturing", OUTSIDE, id="capturing-outside"),
    ],
)
async def test_a_worker_of_a_kind_that_is_refused_goes_on(node, figure, kind, env, request):
    name = f"goes-on-{request.node.callspec.id}"
    source = started(node, "--serve", kind=kind, env=env)
    steps = [json.loads(wait_for(source.get, "an answer", 60.0))]
    captured = await node.capture_running(source, name)
    figure(f"{captured.reason}: {captured.message}")
    assert not captured.ok
    steps += [json.loads(source.get()) for _ in range(5)]
    assert [{step} for step in range(2, 8)] == [set(step) for step in steps]
