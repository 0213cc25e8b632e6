"""PyTorch workers in containers, captured and restored into others by the real engine; run by `make test-gpu`."""

import json
import shutil
import time
from dataclasses import replace

import pytest

from agent.gpu.ahead.prefetch import NoPrefetcher
from artifact.manifest import parse_manifest
from contract.api.reports import ReportPhase
from contract.api.states import AgentReason
from tests.gpu.containers import (
    BOTH,
    CARDS,
    CONTROL,
    MIB,
    NCCL,
    OUTSIDE,
    PROBE,
    SEGMENTS,
    SYMMETRIC,
    is_running,
    ready,
    round_trip,
    start,
    stored_on,
    words,
)
from tests.support.fixtures.bare_container import BareContainer, wait_for
from tests.support.fixtures.engine import COLD, Node
from tests.support.fixtures.runc_container import RuncContainer

pytestmark = pytest.mark.gpu

LARGE_MIB = 20 << 10


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"kind": BareContainer}, id="bare-root"),
        pytest.param({"kind": BareContainer, "user": 1000}, id="bare-uid-1000"),
        pytest.param({"kind": RuncContainer}, id="runc-root"),
        pytest.param({"kind": RuncContainer, "user": 1000}, id="runc-uid-1000"),
        pytest.param({"kind": RuncContainer, "user": 1000, "mebibytes": 8192}, id="runc-8-gib"),
        pytest.param({"kind": RuncContainer, "user": 1000, "flags": ("child", "idle")}, id="two-cuda-processes"),
        pytest.param({"kind": RuncContainer, "user": 1000, "flags": ("pinned",)}, id="pinned-memory"),
        pytest.param({"kind": RuncContainer, "user": 1000, "flags": ("compiled",)}, id="torch-compile"),
        pytest.param({"kind": RuncContainer, "user": 1000, "env": SEGMENTS}, id="expandable-segments"),
    ],
)
async def test_a_worker_goes_on_in_another_container(node, figure, options, request):
    name = request.node.callspec.id
    manifest = await round_trip(node, name, figure, **options)
    assert manifest.gpu is not None
    assert manifest.gpu.bytes >= options.get("mebibytes", 1024) * MIB
    assert (2 if "child" in options.get("flags", ()) else 1) == len(manifest.gpu.processes)
    assert not [point for point in manifest.used_mounts if point.startswith("/dev/nvidia")]


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"user": 1000}, id="plain"),
        pytest.param({"user": 1000, "flags": ("child", "idle")}, id="two-cuda-processes"),
        pytest.param({"user": 1000, "flags": ("pinned", "cache")}, id="pinned-and-cache"),
        pytest.param({"user": 1000, "flags": ("compiled",)}, id="torch-compile"),
        pytest.param({"user": 1000, "flags": ("launching",)}, id="launching-all-the-time"),
        pytest.param({"user": 1000, "env": SEGMENTS}, id="expandable-segments"),
        pytest.param({"kind": BareContainer}, id="bare-root"),
    ],
)
async def test_device_memory_stays_outside_the_image(node, figure, options, request):
    env = options.pop("env", {}) | OUTSIDE
    manifest = await round_trip(node, f"outside-{request.node.callspec.id}", figure, env=env, **options)
    left = manifest.gpu.bytes - sum(memory.bytes for memory in manifest.gpu.outside)
    stored = sum(manifest.files[name].size for memory in manifest.gpu.outside for name in memory.files)
    figure(f"{manifest.gpu.bytes >> 20} MiB, {left >> 20} left in the image, {stored >> 20} stored, driver's with them")
    assert stored >= 1024 * MIB


@pytest.mark.parametrize(
    ("env", "is_left_out"),
    [
        pytest.param({}, {True}, id="plain"),
        pytest.param(SEGMENTS, {True, False}, id="expandable-segments"),  # as that version of torch has it
    ],
)
async def test_a_kv_cache_is_left_out_and_zeros_after_a_restore(node, figure, env, is_left_out, request):
    """A graph still writes it, and tensors beside it are as they were; a worker that goes on keeps it."""
    name, whole = f"kv-{request.node.callspec.id}", 1024 << 18
    source = ready(node, user=1000, flags=("kv",), env=OUTSIDE | env)
    *_, data, (at, full, written, *beside) = json.loads(source.get())
    assert [whole, whole, float(1 << 22), 1024.0] == [full, written, *beside]
    captured = await node.capture(source, name, probe=PROBE)
    assert captured.ok, (captured.message, source.text()[-2000:])
    (memory,) = parse_manifest((node.store / name / "versions/1/manifest.yaml").read_bytes(), name).gpu.outside
    figure(f"{captured.size >> 20} MiB stored, {memory.discarded >> 20} MiB left out; {words(captured.seconds)}")
    assert (memory.discarded >= 1024 * MIB) in is_left_out
    target = await restored_into(node, name, captured.manifest_digest)
    expected = [at, 0, 1024, *beside] if memory.discarded else [at, whole, whole, *beside]
    assert [data, expected] == json.loads(wait_for(target.get, "an answer"))[-2:]
    again = await node.capture_running(target, f"{name}-again")
    assert again.ok, (again.message, target.text()[-2000:])
    copy = await restored_into(node, f"{name}-again", again.manifest_digest)
    expected[1] = expected[2]
    answers = [json.loads(wait_for(each.get, "an answer"))[-2:] for each in (target, copy)]
    assert [[data, expected]] * 2 == answers


async def restored_into(node: Node, name: str, digest: str) -> RuncContainer:
    target = start(node, RuncContainer, user=1000, flags=("kv",))
    target.init()
    restored = await node.restore(target, name, digest)
    assert restored.ok, (restored, target.text())
    return target


async def test_processes_have_symmetric_memory(node, figure):
    """PyTorch creates, exports, imports and maps it, as NCCL does its own."""
    options = {"user": 1000, "script": "symmetric_worker.py", "env": OUTSIDE | SYMMETRIC}
    manifest = await round_trip(node, "symmetric", figure, **options)
    figure(f"memory of the other process: {[memory.imported for memory in manifest.gpu.outside]} pieces")
    assert all(memory.imported for memory in manifest.gpu.outside)


async def test_processes_have_each_others_memory_by_cuda_ipc(node, figure):
    options = {"user": 1000, "script": "ipc_worker.py", "env": OUTSIDE}
    manifest = await round_trip(node, "ipc", figure, **options)
    assert [1, 1] == [memory.imported for memory in manifest.gpu.outside]


@pytest.mark.parametrize("env", [pytest.param({}, id="image"), pytest.param(OUTSIDE, id="outside")])
async def test_a_running_worker_is_captured_and_goes_on(node, figure, env, request):
    """It makes the step that its copy makes: nothing of it was lost, and nothing was done twice."""
    name = f"running-{request.node.callspec.id}"
    captured = await node.capture(ready(node, user=1000, env=env), name, probe=PROBE)
    assert captured.ok, captured.message
    source = start(node, RuncContainer, user=1000)
    source.init()
    assert (await node.restore(source, name, captured.manifest_digest)).ok
    wait_for(source.get, "an answer")
    again = await node.capture_running(source, f"{name}-again")
    assert again.ok, (again.message, source.text()[-2000:])
    figure(f"capture {words(again.seconds)}")
    expected = [source.get() for _ in range(2)]
    target = start(node, RuncContainer, user=1000)
    target.init()
    restored = await node.restore(target, f"{name}-again", again.manifest_digest)
    assert restored.ok, restored
    assert expected == [wait_for(target.get, "an answer"), target.get()]


async def test_device_memory_outside_is_restored_faster(node, figure):
    """The same worker and answers: its memory in the image, filled while it runs, and in a file of its own."""
    seconds, answers = {}, set()
    prefetcher = node.environment.prefetcher
    for arm, env in (("image", {}), ("outside", OUTSIDE), ("ahead", OUTSIDE)):
        ahead = prefetcher if arm == "ahead" else NoPrefetcher()
        node.engine._environment = replace(node.environment, prefetcher=ahead)
        source = ready(node, user=1000, mebibytes=4096, flags=("cache",), env=env)
        source.get()
        captured = await node.capture(source, f"arm-{arm}", probe=PROBE)
        assert captured.ok, (captured.message, source.text()[-2000:])
        figure(f"{arm}: {captured.size >> 20} MiB, capture {words(captured.seconds)}")
        for _ in range(2):
            target = start(node, RuncContainer, user=1000, mebibytes=4096, flags=("cache",))
            target.init()
            begun = time.monotonic()
            restored = await node.restore(target, f"arm-{arm}", captured.manifest_digest)
            assert restored.ok, (restored, target.text())
            answers.add(wait_for(target.get, "an answer"))
            seconds.setdefault(arm, []).append(time.monotonic() - begun)
            figure(f"{arm}: {restored.memory}, {words(restored.seconds)}; first answer after {seconds[arm][-1]:.2f} s")
            node.containers.remove(target)
            target.close()
        shutil.rmtree(node.store / f"arm-{arm}")
    assert 1 == len(answers)
    figure(f"{min(seconds['image']) / max(seconds['outside']):.1f} times as fast")
    assert max(seconds["outside"]) < min(seconds["image"])
    figure(f"on the card ahead: {min(seconds['outside']) / min(seconds['ahead']):.1f} times as fast")


async def test_device_memory_of_sixty_gib(node, figure):
    """No part of it is zeros: 20 GiB of the worker's, and what PyTorch has cached beside them.

    The first restore copies page cache by CPUs; the others have it registered.
    """
    source = ready(node, user=1000, mebibytes=LARGE_MIB, env=OUTSIDE)
    answers = {source.get()}
    captured = await node.capture(source, "large", probe=PROBE)
    assert captured.ok, (captured.message, source.text()[-2000:])
    figure(f"{captured.size >> 20} MiB, capture {words(captured.seconds)}")
    expected = None
    for number in range(4):
        if number:
            wait_for(lambda: node.environment.prefetcher.registered, "registered page cache")
            figure(f"page cache registered: {node.environment.prefetcher.registered >> 20} MiB")
        target = start(node, RuncContainer, user=1000, mebibytes=LARGE_MIB)
        target.init()
        begun = time.monotonic()
        restored = await node.restore(target, "large", captured.manifest_digest)
        assert restored.ok, (restored, target.text())
        found = wait_for(target.get, "an answer")
        (ahead,) = [step for step in restored.steps if step.phase is ReportPhase.GPU_AHEAD]
        figure(f"{words(restored.seconds)}; on the card {ahead.start:.2f} to {ahead.start + ahead.seconds:.2f} s")
        figure(f"first answer after {time.monotonic() - begun:.2f} s")
        assert found not in answers
        assert expected in (None, found)
        expected = found
        node.containers.remove(target)
        target.close()


async def test_memory_is_filled_while_the_worker_runs(node, figure):
    """Device memory is in the image, so the driver's own restore asks for it; the answers are the same in every arm."""
    source = ready(node, user=1000, mebibytes=8192)
    before = source.get()
    captured = await node.capture(source, "filled", probe=PROBE)
    assert captured.ok, (captured.message, source.text()[-2000:])
    seconds, answers = {True: [], False: []}, set()
    for fill in (False, True, False, True):
        node.engine._environment = replace(node.environment, lazy_pages=fill)
        target = start(node, RuncContainer, user=1000, mebibytes=8192)
        target.init()
        begun = time.monotonic()
        restored = await node.restore(target, "filled", captured.manifest_digest)
        assert restored.ok, (restored, target.text())
        answers.add(wait_for(target.get, "an answer"))
        seconds[fill].append(time.monotonic() - begun)
        figure(f"{restored.memory}: {words(restored.seconds)}; first answer after {seconds[fill][-1]:.2f} s")
        node.containers.remove(target)
        target.close()
    assert (1, False) == (len(answers), before in answers)
    figure(f"{captured.size >> 20} MiB: {min(seconds[False]) / max(seconds[True]):.1f} times as fast")
    assert max(seconds[True]) < min(seconds[False])


async def test_a_transformers_model_generates_the_same_tokens(node, figure):
    """In runc, uid 1000 without a capability: the same 33 tokens and scores as a cold twin, before and after."""
    env = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
    manifest = await round_trip(node, "llama", figure, user=1000, script="transformers_worker.py", env=env)
    assert manifest.gpu is not None
    assert 1 == len(manifest.gpu.processes)


async def test_a_kernel_in_flight_is_busy(node, figure):
    source = ready(node, flags=("busy",))
    outcome = await node.capture(source, "busy")
    assert (False, AgentReason.GPU_BUSY) == (outcome.ok, outcome.reason)
    figure(outcome.message)


@pytest.mark.parametrize(
    ("devices", "reason"),
    [
        pytest.param("", AgentReason.GPU_MISSING, id="no-gpu"),
        pytest.param("nvidiactl", AgentReason.GPU_MISSING, id="only-nvidiactl"),
        pytest.param(" ".join(["nvidiactl", *CARDS[:1]]), AgentReason.GPU_FAILED, id="without-uvm"),
    ],
)
async def test_a_container_without_the_devices_starts_cold(node, figure, devices, reason, request):
    name = f"place-{request.node.callspec.id}"
    captured = await node.capture(ready(node, user=1000), name)
    assert captured.ok, captured
    target = start(node, RuncContainer, user=1000, devices=devices)
    target.init()
    outcome = await node.restore(target, name, captured.manifest_digest)
    assert (False, reason) == (outcome.ok, outcome.reason), outcome
    assert target.says(COLD)
    figure(outcome.message)


async def test_a_gpu_without_room_is_refused_and_the_worker_starts_cold(node, figure):
    captured = await node.capture(ready(node, user=1000, mebibytes=8192), "room")
    assert captured.ok, captured
    helper = node.environment.gpus
    (device, *_) = helper.devices()
    hog = ready(node, mebibytes=(device.free >> 20) - 4096)
    target = start(node, RuncContainer, user=1000)
    target.init()
    outcome = await node.restore(target, "room", captured.manifest_digest)
    assert (False, AgentReason.GPU_MEMORY) == (outcome.ok, outcome.reason), outcome
    assert ReportPhase.CRIU not in outcome.seconds
    assert target.says(COLD)
    assert is_running(hog)
    figure(outcome.message)


@pytest.mark.skipif(len(CARDS) < 2, reason="needs two cards")
class TestTwoCards:
    @pytest.mark.parametrize(
        ("env", "mebibytes"),
        [
            pytest.param({}, 1024, id="image"),
            pytest.param(OUTSIDE, 1024, id="outside"),
            pytest.param(OUTSIDE, 8192, id="outside-8-gib"),
        ],
    )
    async def test_one_process_with_two_cards(self, node, figure, env, mebibytes, request):
        options = {"kind": RuncContainer, "user": 1000, "devices": BOTH, "flags": ("two",), "env": env}
        name = f"two-{request.node.callspec.id}"
        manifest = await round_trip(node, name, figure, mebibytes=mebibytes, **options)
        assert 2 == len(manifest.gpu.devices)
        shown = stored_on(manifest)
        figure(f"stored outside of each card: {shown}")
        assert bool(env) == (min(shown) >= mebibytes)

    async def test_a_worker_moves_to_another_card(self, node, figure):
        captured = await node.capture(ready(node, user=1000), "moved")
        assert captured.ok, captured
        target = start(node, RuncContainer, user=1000, devices=" ".join([*CONTROL, CARDS[1]]))
        target.init()
        outcome = await node.restore(target, "moved", captured.manifest_digest)
        assert outcome.ok, outcome
        assert wait_for(target.get, "an answer")
        figure(f"another card: {words(outcome.seconds)}")

    async def test_a_place_with_more_cards_is_refused(self, node):
        captured = await node.capture(ready(node, user=1000), "more")
        assert captured.ok, captured
        target = start(node, RuncContainer, user=1000, devices=BOTH)
        target.init()
        outcome = await node.restore(target, "more", captured.manifest_digest)
        assert (False, AgentReason.GPU_MISMATCH) == (outcome.ok, outcome.reason)
        assert target.says(COLD)

    @pytest.mark.parametrize("outside", [pytest.param({}, id="image"), pytest.param(OUTSIDE, id="outside")])
    async def test_ranks_over_host_memory_go_on(self, node, figure, outside, request):
        env = NCCL | {"NCCL_P2P_DISABLE": "1", "NCCL_CUMEM_HOST_ENABLE": "0"} | outside
        options = {"user": 1000, "devices": BOTH, "script": "ranks_worker.py", "env": env}
        manifest = await round_trip(node, f"ranks-host-{request.node.callspec.id}", figure, **options)
        figure(f"stored outside of each card: {stored_on(manifest)}")
        assert (2 if outside else 0) == len(manifest.gpu.outside)

    @pytest.mark.parametrize("outside", [pytest.param({}, id="image"), pytest.param(OUTSIDE, id="outside")])
    async def test_ranks_that_see_their_own_card_alone_go_on(self, node, figure, outside, request):
        """By CUDA_VISIBLE_DEVICES, as Ray and launchers set it; the container has both."""
        env = NCCL | {"NCCL_P2P_DISABLE": "1", "NCCL_CUMEM_HOST_ENABLE": "0"} | outside
        options = {"user": 1000, "devices": BOTH, "script": "ranks_worker.py", "flags": ("own",), "env": env}
        await round_trip(node, f"ranks-own-{request.node.callspec.id}", figure, **options)

    async def test_ranks_over_host_memory_of_the_driver_go_on(self, node, figure):
        """What NCCL takes without peer access, unless it is told not to: the ranks share it by descriptors."""
        env = NCCL | OUTSIDE | {"NCCL_P2P_DISABLE": "1"}
        options = {"user": 1000, "devices": BOTH, "script": "ranks_worker.py", "env": env}
        manifest = await round_trip(node, "ranks-driver-host", figure, **options)
        figure(f"memory of the other rank: {[memory.imported for memory in manifest.gpu.outside]} pieces")
        assert all(memory.imported for memory in manifest.gpu.outside)

    @pytest.mark.parametrize("flags", [pytest.param((), id="both"), pytest.param(("own",), id="own-alone")])
    async def test_ranks_over_peer_memory_go_on(self, node, figure, flags, request):
        """NCCL's own choice on cards that reach each other; nothing is asked of the worker."""
        options = {"user": 1000, "devices": BOTH, "script": "ranks_worker.py", "flags": flags, "env": NCCL | OUTSIDE}
        manifest = await round_trip(node, f"ranks-peer-{request.node.callspec.id}", figure, **options)
        figure(f"memory of the other rank: {[memory.imported for memory in manifest.gpu.outside]} pieces")
        assert all(memory.imported for memory in manifest.gpu.outside)

    async def test_processes_have_memory_of_the_other_card_by_cuda_ipc(self, node, figure):
        options = {"user": 1000, "devices": BOTH, "script": "ipc_worker.py", "flags": ("two",), "env": OUTSIDE}
        manifest = await round_trip(node, "ipc-two", figure, **options)
        assert [1, 1] == [memory.imported for memory in manifest.gpu.outside]

    async def test_ranks_over_peer_memory_in_the_image_are_refused_by_the_proof(self, node, figure):
        source = ready(node, user=1000, devices=BOTH, script="ranks_worker.py", env=NCCL)
        assert source.get()
        outcome = await node.capture(source, "ranks-peer", probe=PROBE)
        assert (False, AgentReason.PROOF_FAILED) == (outcome.ok, outcome.reason), outcome
        assert not list(node.store.glob("ranks-peer/versions/*"))
        figure(outcome.message)

    @pytest.mark.parametrize("outside", [pytest.param({}, id="image"), pytest.param(OUTSIDE, id="outside")])
    async def test_ranks_that_leave_their_group_meet_again(self, node, figure, outside, request):
        """With NCCL's own choice of memory: none of it is there while the snapshot is taken."""
        options = {"user": 1000, "devices": BOTH, "script": "ranks_worker.py", "env": NCCL | outside}
        name = f"ranks-rejoin-{request.node.callspec.id}"
        source = ready(node, flags=("rejoin",), **options)
        captured = await node.capture(source, name, probe=PROBE)
        assert captured.ok, (captured.message, source.text()[-2000:])
        twin = ready(node, **options)
        expected = [twin.get() for _ in range(3)]
        target = start(node, RuncContainer, flags=("rejoin",), **options)
        target.init()
        begun = time.monotonic()
        restored = await node.restore(target, name, captured.manifest_digest)
        assert restored.ok, (restored, target.text())
        steps = [wait_for(target.get, "an answer")]
        figure(f"restore {words(restored.seconds)}; first all-reduce after {time.monotonic() - begun:.2f} s")
        steps += [target.get() for _ in range(2)]
        assert expected == steps

    async def test_peer_access_between_cards_of_one_process(self, node, figure):
        """Works on some machines and sizes, and not on others: whatever it is, the proof says so."""
        outcome = await node.capture(ready(node, user=1000, devices=BOTH, flags=("peer",)), "peer", probe=PROBE)
        assert outcome.ok or outcome.reason == AgentReason.PROOF_FAILED
        figure(f"captured {outcome.ok}: {outcome.message}")

    async def test_peer_access_is_kept_for_memory_outside(self, node, figure):
        """Taken away for the checkpoint, and given again: it is not what the driver has to restore."""
        options = {"kind": RuncContainer, "user": 1000, "devices": BOTH, "flags": ("peer",), "env": OUTSIDE}
        manifest = await round_trip(node, "peer-outside", figure, **options)
        figure(f"stored outside of each card: {stored_on(manifest)}")
        assert 0 < min(stored_on(manifest))

    async def test_parts_are_read_onto_both_cards(self, node, figure):
        """The same worker, with what is read ahead and without; the answers are the same."""
        source = ready(node, user=1000, devices=BOTH, mebibytes=8192, flags=("two",), env=OUTSIDE)
        captured = await node.capture(source, "two-ahead", probe=PROBE)
        assert captured.ok, (captured.message, source.text()[-2000:])
        answers = set()
        for ahead in (NoPrefetcher(), node.environment.prefetcher) * 2:
            node.engine._environment = replace(node.environment, prefetcher=ahead)
            target = start(node, RuncContainer, user=1000, devices=BOTH, mebibytes=8192, flags=("two",))
            target.init()
            begun = time.monotonic()
            restored = await node.restore(target, "two-ahead", captured.manifest_digest)
            assert restored.ok, (restored, target.text())
            answers.add(wait_for(target.get, "an answer"))
            kind = type(ahead).__name__
            figure(f"{kind}: {words(restored.seconds)}; first answer after {time.monotonic() - begun:.2f} s")
            node.containers.remove(target)
            target.close()
        assert 1 == len(answers)
