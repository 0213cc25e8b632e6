"""vLLM as a worker: ``vllm serve`` in a container, captured and restored into two others; run by `make test-vllm`."""

import os
import time
from dataclasses import dataclass, field

import pytest

from contract.api import keys
from contract.pods.canary import Canary, CanaryCall
from tests.gpu.containers import BOTH, CARD, CARDS, OUTSIDE, until_ready, used_by_workers, words
from tests.gpu.vllm_engine import COMPLETION, KIT, PROBE, START_SECONDS, TOKENS, complete, serve
from tests.support.fixtures.bare_container import BareContainer
from tests.support.fixtures.engine import Node

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(KIT not in os.environ, reason="needs vLLM: make test-vllm")]

LARGE_CACHE = 60 << 30
# NCCL over host memory, and no all-reduce over symmetric memory either: the cards would share it.
TWO_CARDS = {"NCCL_P2P_DISABLE": "1", "NCCL_CUMEM_HOST_ENABLE": "0", "VLLM_ALLREDUCE_USE_SYMM_MEM": "0"}


@dataclass(frozen=True)
class Case:
    """How the engine is started, and what it is asked to do before the capture and after each restore."""

    flags: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    devices: str = CARD
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    canary: CanaryCall | None = None


CANARY = CanaryCall(
    Canary(
        path="/v1/completions",
        body=COMPLETION,
        same=True,
        select=("/choices/0/token_ids", "/choices/0/logprobs/token_logprobs"),
    ),
    8000,
)


def asleep(level: int, *after: str) -> Case:
    """Return the case of an engine that sleeps while it is captured."""
    return Case(("--enable-sleep-mode",), {"VLLM_SERVER_DEV_MODE": "1"}, CARD, (f"/sleep?level={level}",), after)


def started(node: Node, *arguments: str, case: Case) -> BareContainer:
    return serve(node, *arguments, flags=case.flags, environment=case.environment, devices=case.devices)


def order(container: BareContainer, path: str) -> None:
    """Ask the engine to do something; a name after # is the method that all its workers run."""
    path, _, method = path.partition("#")
    container.post(path, {"method": method} if method else None)


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(Case(), id="serve"),
        pytest.param(Case(canary=CANARY), id="canary"),
        pytest.param(Case(environment=OUTSIDE, canary=CANARY), id="outside"),
        pytest.param(Case(("--kv-cache-memory-bytes", str(LARGE_CACHE)), OUTSIDE), id="outside-with-a-large-cache"),
        pytest.param(asleep(1, "/wake_up"), id="level-1-sleep"),
        pytest.param(
            Case(("--enable-sleep-mode",), {"VLLM_SERVER_DEV_MODE": "1"} | OUTSIDE), id="outside-and-able-to-sleep"
        ),
        pytest.param(
            asleep(2, "/wake_up?tags=weights", "/collective_rpc#reload_weights", "/wake_up?tags=kv_cache"),
            id="level-2-sleep",
        ),
        pytest.param(
            Case(("--tensor-parallel-size", "2", "--disable-custom-all-reduce"), TWO_CARDS, BOTH),
            id="two-cards",
            marks=pytest.mark.skipif(len(CARDS) < 2, reason="needs two cards"),
        ),
        pytest.param(
            Case(("--tensor-parallel-size", "2", "--disable-custom-all-reduce"), TWO_CARDS | OUTSIDE, BOTH),
            id="two-cards-outside",
            marks=pytest.mark.skipif(len(CARDS) < 2, reason="needs two cards"),
        ),
        pytest.param(
            Case(("--tensor-parallel-size", "2"), OUTSIDE, BOTH),
            id="two-cards-as-they-come",
            marks=pytest.mark.skipif(len(CARDS) < 2, reason="needs two cards"),
        ),
    ],
)
async def test_an_engine_answers_the_same_in_other_containers(node, figure, case, request):
    """One prompt at a time: an engine that joins several in a batch differs from itself in the last bits."""
    name = request.node.callspec.id
    begun = time.monotonic()
    source = until_ready(started(node, "--capture", case=case), START_SECONDS)
    figure(f"ready after {time.monotonic() - begun:.0f} s")
    expected = complete(source)
    assert expected == complete(source)
    assert len(set(expected[0])) > TOKENS // 4
    for path in case.before:
        order(source, path)
    captured = await node.capture(source, name, probe=PROBE, canary=case.canary)
    assert captured.ok, (captured.message, source.text()[-3000:])
    figure(f"{captured.size >> 20} MiB: capture {words(captured.seconds)}")
    for _ in range(2):
        target = started(node, case=case)
        target.init()
        begun = time.monotonic()
        restored = await node.restore(target, name, captured.manifest_digest, canary=case.canary)
        assert restored.ok, (restored, target.text()[-3000:])
        for path in case.after:
            order(target, path)
        assert expected == complete(target), target.text()[-3000:]
        figure(f"restore {words(restored.seconds)}; first answer after {time.monotonic() - begun:.2f} s")
        assert expected == complete(target)
        node.containers.remove(target)
        target.close()


@pytest.mark.parametrize("environment", [pytest.param({}, id="image"), pytest.param(OUTSIDE, id="outside")])
async def test_a_parked_engine_answers_the_same_once_it_is_woken(node, figure, environment, request):
    name, case = f"parked-{request.node.callspec.id}", Case(environment=environment)
    source = until_ready(started(node, "--capture", case=case), START_SECONDS)
    expected = complete(source)
    captured = await node.capture(source, name, probe=PROBE)
    assert captured.ok, (captured.message, source.text()[-3000:])
    target = started(node, keys.STANDBY_PARK, case=case)
    target.init()
    parked = await node.restore(target, name, captured.manifest_digest, parks=True)
    assert (True, True, set()) == (parked.ok, parked.parked, used_by_workers(node)), parked
    begun = time.monotonic()
    woken = await node.restore(target, name, captured.manifest_digest)
    assert woken.ok, (woken, target.text()[-3000:])
    awake = time.monotonic() - begun
    assert expected == complete(target), target.text()[-3000:]
    figure(f"wake {words(woken.seconds)}; awake after {awake:.2f} s, {TOKENS} tokens {time.monotonic() - begun:.2f} s")
