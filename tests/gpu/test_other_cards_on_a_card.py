"""Workers on other cards than those of their capture; run by `make test-gpu-2`.

With two cards at hand, those of a worker with two are exchanged: the driver knows both from before, and must not take
one for the other. A worker with one is restored onto one that it has never seen.
"""

import pytest

from agent.executor.restore import inspection
from tests.gpu.containers import (
    BOTH,
    CARDS,
    CONTROL,
    NCCL,
    OUTSIDE,
    SEGMENTS,
    SYMMETRIC,
    restored_answers,
    round_trip,
)

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(len(CARDS) < 2, reason="needs two cards")]

ANOTHER = " ".join([*CONTROL, *CARDS[1:2]])


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"env": OUTSIDE}, id="one-process"),
        pytest.param({"env": OUTSIDE | SEGMENTS}, id="expandable-segments"),
        pytest.param({"env": OUTSIDE, "flags": ("child", "idle")}, id="two-cuda-processes"),
        pytest.param({"env": OUTSIDE, "script": "ipc_worker.py"}, id="cuda-ipc"),
        pytest.param({"env": OUTSIDE | SYMMETRIC, "script": "symmetric_worker.py"}, id="symmetric-memory"),
        pytest.param({"env": {}}, id="image"),
    ],
)
async def test_a_worker_goes_on_on_another_card(node, figure, options, request):
    """And is captured there, to go on on the first one again."""
    name = f"elsewhere-{request.node.callspec.id}"
    await round_trip(node, name, figure, user=1000, onto=ANOTHER, **options)
    moved = node.containers[-1]
    again = await node.capture_running(moved, f"{name}-again")
    assert again.ok, (again.message, moved.text()[-2000:])
    expected = [moved.get() for _ in range(3)]
    assert expected == await restored_answers(node, f"{name}-again", again.manifest_digest, 3, user=1000, **options)


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"env": OUTSIDE, "flags": ("two",)}, id="one-process"),
        pytest.param({"env": OUTSIDE, "flags": ("peer",)}, id="peer-access"),
        pytest.param({"env": OUTSIDE | NCCL, "script": "ranks_worker.py"}, id="nccl-over-peer-memory"),
        pytest.param({"env": OUTSIDE, "script": "ipc_worker.py", "flags": ("two",)}, id="cuda-ipc"),
    ],
)
async def test_a_worker_goes_on_when_its_two_cards_are_exchanged(node, figure, monkeypatch, options, request):
    real = inspection.container_devices
    monkeypatch.setattr(inspection, "container_devices", lambda *given: real(*given)[::-1])
    await round_trip(node, f"exchanged-{request.node.callspec.id}", figure, user=1000, devices=BOTH, **options)
