"""Workers with CUDA processes through a real engine and a real criu; the driver is a stand-in with the driver's rules.

The worker and its child are both CUDA processes: the mark is in the environment that they inherit.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from agent.executor import engine as engine_module
from agent.executor.capture.phases import CAPTURE
from agent.executor.restore.phases import RESTORE
from agent.gpu.cuda import NoGpus
from artifact.manifest import parse_manifest
from contract.api.reports import ReportPhase
from contract.api.states import AgentReason
from contract.config.gpus import DeniedDriver
from linux.proc import descendants, files_in_use, namespace_mates
from tests.node.engine.failures.test_failing_phases import each, failing
from tests.support import stand_in_cuda
from tests.support.fixtures.bare_container import PYTHON, WORKER, WORKER_COMMAND, BareContainer, wait_for
from tests.support.fixtures.engine import COLD, Node, captured, gpu_node, ready, until_ready
from tests.support.fixtures.runc_container import RuncContainer

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: namespaces and criu")

UUID = "ab" * 16
MIB = 1 << 20


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    return stand_in_cuda.build(tmp_path_factory.mktemp("cuda"))


@pytest.fixture
def node(folder, library) -> Iterator[Node]:
    with gpu_node(folder, library) as made:
        yield made


def gpu(**arranged):
    """Options of a container whose worker uses the GPU."""
    return {"devices": "nvidia0", "env": stand_in_cuda.marked(**{"mib": "0064"} | arranged)}


def states(container):
    """What the driver says of the worker and its child."""
    init = container.init()
    return [stand_in_cuda.state(pid) for pid in descendants(init, namespace_mates(init))]


async def test_device_state_comes_back_before_the_worker_runs(node):
    before, digest = await captured(node, "gpu-whole", **gpu())
    text = (node.store / "gpu-whole/versions/1/manifest.yaml").read_bytes()
    manifest = parse_manifest(text, "gpu-whole")
    assert (2, "580.0.1", "13.0") == (manifest.format_version, manifest.gpu.driver, manifest.gpu.cuda)
    assert [(UUID, "Stand-in GPU", 128 * MIB)] == [(d.uuid, d.model, d.used) for d in manifest.gpu.devices]
    assert manifest.process.pid in manifest.gpu.processes
    assert 2 == len(manifest.gpu.processes)
    target = node.start(devices="nvidia0")
    target.init()
    outcome = await node.restore(target, "gpu-whole", digest)
    assert outcome.ok, outcome
    assert ReportPhase.GPU_RESTORE in outcome.seconds
    assert before == target.get()
    assert ["R", "R"] == states(target)


async def test_the_same_in_containers_of_runc(node):
    """Uid 1000 without a capability, a seccomp filter, and a device cgroup that allows the GPU's node alone."""
    options = {"user": 1000, "devices": "nvidia0"}
    command = ["--", *WORKER_COMMAND, "8"]
    source = node.start_as(RuncContainer, "--capture", *command, env=stand_in_cuda.marked(mib="0064"), **options)
    until_ready(source)
    before = source.get()
    outcome = await node.capture(source, "gpu-runc")
    assert outcome.ok, outcome
    target = node.start_as(RuncContainer, *command, **options)
    target.init()
    outcome = await node.restore(target, "gpu-runc", outcome.manifest_digest)
    assert outcome.ok, outcome
    assert before == target.get()
    assert ["R", "R"] == states(target)


async def test_phases_of_gpus_are_in_no_report_of_other_workers(node):
    outcome = await node.capture(ready(node), "gpu-none")
    assert outcome.ok, outcome
    assert not {phase for phase in outcome.seconds if phase.startswith("gpu-")}


async def test_a_kernel_in_flight_that_does_not_end(node, monkeypatch):
    monkeypatch.setattr("agent.executor.gpu.capture.LOCK_SECONDS", 0.2)
    source = ready(node, **gpu(busy=""))
    outcome = await node.capture(source, "gpu-busy")
    assert (False, AgentReason.GPU_BUSY) == (outcome.ok, outcome.reason)
    assert "CUDA_ERROR_NOT_READY" in outcome.message


FORKED = WORKER.replace(
    '"import time\\nwhile', """"held = open('/dev/nvidia-uvm', 'w'); import time\\nwhile"""
).replace('time.sleep(0.2)"]', 'time.sleep(0.2)"], env={}')
"""Its child is no CUDA process, and has a device of the driver open: as if it was forked by one."""


async def test_a_process_that_inherited_devices_is_refused_before_anything_is_touched(node):
    assert "env={}" in FORKED
    source = node.start_as(BareContainer, "--capture", "--", PYTHON, "-c", FORKED, "8", **gpu())
    until_ready(source)
    wait_for(lambda: "/dev/nvidia-uvm" in str(opened(source)), "the child's device")
    outcome = await node.capture(source, "gpu-forked")
    assert (False, AgentReason.GPU_UNSUPPORTED) == (outcome.ok, outcome.reason), outcome
    assert "has /dev/nvidia-uvm open and is no CUDA process" in outcome.message
    assert not {phase for phase in outcome.seconds if phase in ("gpu-lock", "dump")}


def opened(container):
    init = container.init()
    return [files_in_use(pid) for pid in descendants(init, namespace_mates(init))]


async def test_a_limit_that_cannot_hold_the_device_memory(node):
    source = ready(node, **gpu(mib="2048"))
    source.limit_memory(1024 * MIB)
    outcome = await node.capture(source, "gpu-limit")
    assert (False, AgentReason.MEMORY_LIMIT) == (outcome.ok, outcome.reason)
    assert "4096 MiB" in outcome.message
    assert re.search(r"leaves \d+ MiB: raise resources.limits.memory by at least \d+ MiB, to \d+Mi$", outcome.message)
    assert not {phase for phase in outcome.seconds if phase in ("gpu-lock", "dump")}


async def test_what_is_written_does_not_count_for_the_worker(node):
    """Its limit leaves far less than the images take: their page cache is the agent's."""
    source = ready(node, **gpu(mib="0001"), megabytes=96)
    source.limit_memory(source.memory() + 16 * MIB)
    outcome = await node.capture(source, "gpu-tight")
    assert outcome.ok, outcome
    assert outcome.size > 96 * MIB


@pytest.mark.parametrize(
    "number",
    each(
        CAPTURE,
        but=("inspect", "canary", "gpu-save", "files", "weights", "seal", "verify", "proof", "publish", "verdict"),
    ),
)
async def test_a_failed_capture_leaves_the_worker_with_its_devices(node, monkeypatch, number):
    """CRIU ends the worker once it has dumped it; whatever fails before that is undone in place."""
    source = ready(node, **gpu())
    before, seen = source.get(), []
    phases = list(failing(CAPTURE, number))
    if phases[number].name == ReportPhase.DUMP:
        phases[number] = replace(phases[number], run=lambda _: 1 / 0)
    monkeypatch.setattr(engine_module, "CAPTURE", phases)
    ended = engine_module.NodeEngine._capture_failed

    def look_first(*arguments):
        seen.extend([states(source), source.get()])
        return ended(*arguments)

    monkeypatch.setattr(engine_module.NodeEngine, "_capture_failed", look_first)
    outcome = await node.capture(source, f"gpu-failed-{number}")
    assert not outcome.ok
    assert [["R", "R"], before] == seen


@pytest.mark.parametrize("number", each(RESTORE, but=("pages", "gpu-prefetch", "ipc", "canary", "verdict")))
async def test_a_restore_that_fails_leaves_nothing(node, monkeypatch, number):
    _, digest = await captured(node, f"gpu-restore-{number}", **gpu())
    target = node.start(devices="nvidia0")
    target.init()
    monkeypatch.setattr(engine_module, "RESTORE", failing(RESTORE, number))
    outcome = await node.restore(target, f"gpu-restore-{number}", digest)
    assert (False, AgentReason.INTERNAL_ERROR) == (outcome.ok, outcome.reason)
    assert target.says("outcome NOT_MANAGED").startswith(COLD)


async def test_device_state_that_cannot_come_back_is_found_by_the_proof(node):
    source = ready(node, **gpu(oom=""))
    outcome = await node.capture(source, "gpu-proof")
    assert (False, AgentReason.PROOF_FAILED) == (outcome.ok, outcome.reason)
    assert "gpu-restore: CUDA restore of process" in outcome.message
    assert not (node.store / "gpu-proof/versions/1").exists()


async def test_too_little_device_memory_at_the_restore_ends_in_a_cold_start(node):
    """The driver says so only in the call; it cannot be made twice, so the tree is ended."""
    node.engine._environment = replace(node.environment, proof=False)
    _, digest = await captured(node, "gpu-oom", **gpu(oom=""))
    target = node.start(devices="nvidia0")
    target.init()
    outcome = await node.restore(target, "gpu-oom", digest)
    assert (False, AgentReason.GPU_MEMORY) == (outcome.ok, outcome.reason)
    assert target.says("outcome NOT_MANAGED").startswith(COLD)


@pytest.mark.parametrize(
    ("devices", "gpus", "words"),
    [
        pytest.param("none", None, "this pod has no GPU", id="a-pod-without-gpu"),
        pytest.param("nvidia0", NoGpus(), "finds no CUDA driver", id="an-agent-without-driver"),
    ],
)
async def test_a_place_without_the_gpu_is_refused_before_anything_is_touched(node, devices, gpus, words, request):
    name = f"gpu-place-{request.node.callspec.id}"
    _, digest = await captured(node, name, **gpu())
    if gpus is not None:
        node.engine._environment = replace(node.environment, gpus=gpus, cuda=gpus)
    target = node.start(devices=devices)
    target.init()
    outcome = await node.restore(target, name, digest)
    assert (False, AgentReason.GPU_MISSING) == (outcome.ok, outcome.reason)
    assert words in outcome.message
    assert {"queue", "open", "verify", "inspect"} >= set(outcome.seconds) - {"undo", "other", "total"}
    assert target.says("outcome NOT_MANAGED").startswith(COLD)


DENIED = (DeniedDriver(versions="580.*", reason="the node hangs", report="NVIDIA/cuda-checkpoint#53"),)


async def test_a_denied_driver_is_asked_to_capture_nothing(node):
    source = ready(node, **gpu())
    node.engine._environment = replace(node.environment, denied_drivers=DENIED)
    outcome = await node.capture(source, "gpu-denied")
    assert (False, AgentReason.GPU_DRIVER_DENIED) == (outcome.ok, outcome.reason)
    assert "NVIDIA/cuda-checkpoint#53" in outcome.message
    assert {"queue", "inspect"} >= set(outcome.seconds) - {"undo", "other", "total"}


async def test_a_denied_driver_restores_nothing_and_the_worker_starts_cold(node):
    _, digest = await captured(node, "gpu-denied-later", **gpu())
    node.engine._environment = replace(node.environment, denied_drivers=DENIED)
    target = node.start(devices="nvidia0")
    target.init()
    outcome = await node.restore(target, "gpu-denied-later", digest)
    assert (False, AgentReason.GPU_DRIVER_DENIED) == (outcome.ok, outcome.reason)
    assert {"queue", "open", "verify", "inspect"} >= set(outcome.seconds) - {"undo", "other", "total"}
    assert target.says("outcome NOT_MANAGED").startswith(COLD)


@pytest.fixture
def divided(node, folder, tmp_path) -> Iterator[Node]:
    """The same node, after its GPU was divided (MIG)."""
    with gpu_node(folder, stand_in_cuda.build(tmp_path, 1, stand_in_cuda.VERSION, "MIG")) as made:
        yield made


async def test_a_gpu_that_is_divided_is_asked_for_nothing(node, divided):
    """Its device plugin may call the parts nvidia.com/gpu, so admission cannot know."""
    source = ready(divided, **gpu())
    outcome = await divided.capture(source, "gpu-mig")
    assert (False, AgentReason.GPU_UNSUPPORTED) == (outcome.ok, outcome.reason), outcome
    assert "is in MIG mode" in outcome.message
    assert not {phase for phase in outcome.seconds if phase in ("gpu-lock", "dump")}

    _, digest = await captured(node, "gpu-whole-before", **gpu())
    target = divided.start(devices="nvidia0")
    target.init()
    outcome = await divided.restore(target, "gpu-whole-before", digest)
    assert (False, AgentReason.GPU_MISMATCH) == (outcome.ok, outcome.reason), outcome
    assert target.says("outcome NOT_MANAGED").startswith(COLD)


async def test_a_worker_without_gpus_is_captured_beside_a_denied_driver(node):
    node.engine._environment = replace(node.environment, denied_drivers=DENIED)
    outcome = await node.capture(ready(node), "gpu-denied-none")
    assert outcome.ok, outcome


async def test_the_tree_is_held_for_as_long_as_the_driver_works(node):
    _, digest = await captured(node, "gpu-held", **gpu(slow="0500"))
    target = node.start(devices="nvidia0")
    target.init()
    outcome = await node.restore(target, "gpu-held", digest)
    assert outcome.ok, outcome
    assert outcome.seconds[ReportPhase.GPU_RESTORE] >= 0.5
    assert ["R", "R"] == states(target)


ROUNDS = 8
"""Fifty on a card: tests/gpu."""


async def test_rounds_of_captures_and_restores_leave_nothing(node):
    """One worker, captured while it runs and restored into the next container, again and again."""
    source = node.start_as(BareContainer, "--serve", "--", *WORKER_COMMAND, "8", **gpu())
    source.says("outcome COLD")
    before, seen = source.get(), []
    for number in range(ROUNDS):
        outcome = await node.capture_running(source, f"gpu-round-{number}")
        assert outcome.ok, outcome
        target = node.start(devices="nvidia0")
        target.init()
        restored = await node.restore(target, f"gpu-round-{number}", outcome.manifest_digest)
        assert restored.ok, restored
        assert before == target.get()
        node.containers.remove(source)
        source.close()
        source = target
        wait_for(lambda: 2 == len(node.environment.gpus.used()), "device memory of the former worker free")
        seen.append(held(node))
    assert seen[1] == seen[-1]


def held(node):
    """What an agent could lose hold of: descriptors, its own and the helper's, and files of its work."""
    helper = node.environment.cuda._running()._process.pid
    folders = (Path("/proc/self/fd"), Path(f"/proc/{helper}/fd"), node.environment.work)
    return [len(list(folder.iterdir())) for folder in folders]
