"""Device memory outside the image: the real library in a worker, a real engine and a real criu; a stand-in driver."""

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from agent.executor import engine as engine_module
from agent.executor.capture.phases import CAPTURE
from agent.executor.capture.running import RUNNING
from agent.gpu.device_memory import Conversation
from agent.gpu.preload import find_library
from artifact.manifest import parse_manifest
from contract.api import control_files, keys
from contract.api.reports import ReportPhase
from contract.api.states import AgentReason
from contract.pods.probe import Probe
from linux.proc import descendants, namespace_mates
from tests.node.engine.failures.test_failing_phases import each, failing
from tests.support import stand_in_cuda
from tests.support.fixtures import engine as engine_fixtures
from tests.support.fixtures.bare_container import PYTHON, BareContainer, wait_for
from tests.support.fixtures.dying_agent import die_after
from tests.support.fixtures.engine import COLD, Node, gpu_node, until_ready

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: namespaces and criu")

MIB = 1 << 20
DATA, ZEROS, CACHE = 64, 64, 48
PROBE = Probe("HTTP", "127.0.0.1", 8000, timeout=20.0)


@pytest.fixture(scope="module")
def library(tmp_path_factory, folder):
    stand_in_cuda.build_device(folder[0] / "tools/libcuda.so.1")
    shutil.copy(Path(engine_fixtures.__file__).with_name("device_worker.py"), folder[0] / "tools/device_worker.py")
    return stand_in_cuda.build(tmp_path_factory.mktemp("cuda"))


@pytest.fixture
def node(folder, library) -> Iterator[Node]:
    with gpu_node(folder, library) as made:
        yield made


def start(node: Node, *arguments: str, outside: bool = True, **options) -> BareContainer:
    marks = stand_in_cuda.marked(mib="0400") | options.pop("env", {})
    words = options.pop("words", ())
    if outside:
        marks[keys.ENV_DEVICE_MEMORY] = "/tools/device-memory.so"
    command = [PYTHON, "/tools/device_worker.py", str(DATA), str(ZEROS), *words]
    return node.start_as(BareContainer, *arguments, "--", *command, devices="nvidia0", env=marks, **options)


def ready(node: Node, **options) -> BareContainer:
    source = start(node, "--capture", **options)
    until_ready(source)
    return source


def manifest_of(node: Node, name: str):
    return parse_manifest((node.store / name / "versions/1/manifest.yaml").read_bytes(), name)


async def test_device_memory_is_in_a_file_of_its_own(node):
    source = ready(node)
    before = json.loads(source.get())
    captured = await node.capture(source, "memory-whole", probe=PROBE)
    assert captured.ok, (captured, source.text())
    manifest = manifest_of(node, "memory-whole")
    (memory,) = manifest.gpu.outside
    assert (4, manifest.process.pid) == (manifest.format_version, memory.process)
    assert memory.bytes >= (DATA + ZEROS) * MIB
    stored = sum(manifest.files[name].size for name in memory.files)
    assert DATA * MIB <= stored <= (DATA + 8) * MIB
    assert manifest.pages < DATA * MIB
    target = start(node, outside=False)
    target.init()
    restored = await node.restore(target, "memory-whole", captured.manifest_digest)
    assert restored.ok, (restored, target.text())
    assert before == json.loads(wait_for(target.get, "an answer"))
    assert len(before) + 1 == len(json.loads(target.get("/grow")))


async def captured(node: Node, name: str, **options) -> tuple[list[object], str]:
    """Capture a fresh worker; return what its device memory held, and the digest."""
    source = ready(node, **options)
    before = json.loads(source.get("/step"))
    outcome = await node.capture(source, name)
    assert outcome.ok, outcome
    assert 0 == source.code()
    return before, outcome.manifest_digest


def test_every_way_to_an_allocation_is_ours_and_no_file_is_needed(node):
    source = ready(node)
    assert [0, 0, 0] == json.loads(source.get("/doors"))
    for pid in descendants(source.init(), namespace_mates(source.init())):
        assert "device-memory.so" not in Path(f"/proc/{pid}/maps").read_text()


def test_threads_wait_before_the_driver_while_the_gate_is_closed(node):
    """And every argument of the call that waited arrives: those in registers, and those on the stack."""
    source = ready(node)

    def calls() -> int:
        made, wrong = json.loads(source.get("/calls"))
        assert 0 == wrong
        return made

    wait_for(calls, "calls")
    (pid, mate) = next((p, m) for p, m in namespace_mates(source.init()).items() if find_library(p, m.inner_pid))
    with Conversation(find_library(pid, mate.inner_pid), source.init()) as conversation:
        assert conversation.contents().bytes > 0
        conversation.keep_out()
        before = calls()
        # Fifty answers take longer than fifty calls: one may have been under way.
        assert before + 1 >= [calls() for _ in range(50)][-1]
    wait_for(lambda: calls() > before + 10, "calls again")


@pytest.mark.parametrize(
    ("outside", "env", "preloaded"),
    [
        pytest.param(True, {}, "/tools/device-memory.so", id="alone"),
        pytest.param(True, {"LD_PRELOAD": "/a.so"}, "/a.so:/tools/device-memory.so", id="behind-another"),
        pytest.param(True, {"LD_PRELOAD": "/x/torch_memory_saver.so"}, "/x/torch_memory_saver.so", id="stands-back"),
        pytest.param(False, {}, "", id="switched-off"),
    ],
)
def test_the_library_is_preloaded_behind_all_others(node, outside, env, preloaded):
    marks = env | ({keys.ENV_DEVICE_MEMORY: "/tools/device-memory.so"} if outside else {})
    source = node.start_as(BareContainer, "--capture", "--", "sh", "-c", 'echo "[$LD_PRELOAD]"; sleep 99', env=marks)
    source.says(f"[{preloaded}]")


async def test_a_limit_need_not_hold_what_stays_outside(node):
    source = ready(node)
    resident = 900 * MIB  # the stand-in's device memory counts as long as it is mapped
    source.limit_memory(resident)
    outcome = await node.capture(source, "memory-limit")
    assert outcome.ok, outcome


@pytest.mark.parametrize(
    "number",
    each(CAPTURE, but=("inspect", "canary", "files", "weights", "seal", "verify", "proof", "publish", "verdict")),
)
async def test_a_failed_capture_leaves_the_worker_with_its_memory(node, monkeypatch, number):
    source = ready(node)
    before, seen = json.loads(source.get()), []
    phases = list(failing(CAPTURE, number))
    if phases[number].name == ReportPhase.DUMP:
        phases[number] = replace(phases[number], run=lambda _: 1 / 0)
    monkeypatch.setattr(engine_module, "CAPTURE", phases)
    ended = engine_module.NodeEngine._capture_failed

    def look_first(*arguments):
        seen.extend([json.loads(source.get()), len(json.loads(source.get("/grow")))])
        return ended(*arguments)

    monkeypatch.setattr(engine_module.NodeEngine, "_capture_failed", look_first)
    outcome = await node.capture(source, f"memory-failed-{number}")
    assert not outcome.ok
    assert [before, len(before) + 1] == seen


@pytest.mark.parametrize("phase", [ReportPhase.GPU_LOCK, ReportPhase.GPU_SAVE, ReportPhase.GPU_CHECKPOINT])
async def test_a_capture_whose_agent_is_killed_ends_the_worker(node, library, phase):
    source = ready(node)
    die_after(phase, node, source, f"memory-killed-{phase}", library=str(library))
    outcome = await node.capture(source, f"memory-killed-{phase}")
    assert (False, AgentReason.AGENT_DIED, 1) == (outcome.ok, outcome.reason, source.code())


async def test_too_little_device_memory_ends_in_a_cold_start(node):
    _, digest = await captured(node, "memory-full")
    target = start(node)
    target.init()
    target.run("touch /var/tmp/device-memory-full")
    outcome = await node.restore(target, "memory-full", digest)
    assert (False, AgentReason.GPU_MEMORY) == (outcome.ok, outcome.reason), outcome
    assert "cannot have its device memory back" in outcome.message
    assert target.says(COLD)


async def test_a_running_worker_goes_on_and_its_copy_is_captured_again(node):
    first = ready(node)
    before = json.loads(first.get())
    outcome = await node.capture(first, "memory-running")
    assert outcome.ok, outcome
    source = start(node)
    source.init()
    assert (await node.restore(source, "memory-running", outcome.manifest_digest)).ok
    stepped = json.loads(wait_for(lambda: source.get("/step"), "an answer"))
    again = await node.capture_running(source, "memory-again")
    assert again.ok, again
    assert stepped == json.loads(source.get())
    assert len(stepped) + 1 == len(json.loads(source.get("/grow")))
    target = start(node)
    target.init()
    assert (await node.restore(target, "memory-again", again.manifest_digest)).ok
    assert stepped == json.loads(wait_for(target.get, "an answer"))
    assert stepped != before


async def test_a_running_worker_whose_agent_died_before_its_memory_went_outside_goes_on(node, library):
    source = start(node, "--serve")
    before = json.loads(wait_for(source.get, "an answer"))
    die_after(ReportPhase.GPU_LOCK, node, source, "memory-left", library=str(library), running=True)
    engine_module.NodeEngine(node.environment)
    wait_for(lambda: not (source.control / control_files.DEVICES).exists(), "the note taken away")
    assert before == json.loads(source.get())
    assert len(before) + 1 == len(json.loads(source.get("/grow")))


@pytest.mark.parametrize("phase", [ReportPhase.GPU_SAVE, ReportPhase.GPU_CHECKPOINT, ReportPhase.FREEZE])
async def test_one_whose_agent_died_after_that_starts_again(node, library, phase):
    source = start(node, "--serve")
    wait_for(source.get, "an answer")
    die_after(phase, node, source, f"memory-lost-{phase}", library=str(library), running=True)
    engine_module.NodeEngine(node.environment)
    assert control_files.EXIT_RESTART_ME == source.code()


@pytest.mark.parametrize("number", each(RUNNING, but=("inspect", "canary", "weights")))
async def test_a_failed_capture_of_a_running_worker_leaves_it_its_memory(node, monkeypatch, number):
    source = start(node, "--serve")
    before = json.loads(wait_for(source.get, "an answer"))
    monkeypatch.setattr(engine_module, "RUNNING", failing(RUNNING, number))
    outcome = await node.capture_running(source, f"memory-running-{number}")
    assert not outcome.ok
    assert before == json.loads(source.get())
    assert len(before) + 1 == len(json.loads(source.get("/grow")))
    assert not (source.control / control_files.DEVICES).exists()


async def test_a_graph_that_is_being_captured_is_not_spoiled(node):
    """To wait for kernels would; so it is refused before anything is held, and done once the graph is whole."""
    source = start(node, "--serve")
    before = json.loads(wait_for(lambda: source.get("/record"), "an answer") and source.get())
    outcome = await node.capture_running(source, "memory-recording")
    assert (False, AgentReason.GPU_BUSY) == (outcome.ok, outcome.reason)
    assert "be saved while it captures a CUDA graph" in outcome.message
    assert [before, [0]] == [json.loads(source.get()), json.loads(source.get("/recorded"))]
    outcome = await node.capture_running(source, "memory-recording")
    assert outcome.ok, outcome


async def test_what_may_be_discarded_is_in_no_file_and_zeros_after_a_restore(node):
    source = ready(node, words=("cache",))
    before, cache = json.loads(source.get()), json.loads(source.get("/cache"))
    captured = await node.capture(source, "memory-discarded", probe=PROBE)
    assert captured.ok, (captured, source.text())
    manifest = manifest_of(node, "memory-discarded")
    (memory,) = manifest.gpu.outside
    assert CACHE * MIB == memory.discarded
    assert memory.bytes >= (DATA + ZEROS + CACHE) * MIB
    assert sum(manifest.files[name].size for name in memory.files) <= (DATA + 12) * MIB
    target = start(node, outside=False)
    target.init()
    restored = await node.restore(target, "memory-discarded", captured.manifest_digest)
    assert restored.ok, (restored, target.text())
    assert before == json.loads(wait_for(target.get, "an answer"))
    after = json.loads(target.get("/cache"))
    assert [(at, True) for at, _, _ in cache] == [(at, is_zeros) for at, _, is_zeros in after]
    assert [False, False] == [is_zeros for _, _, is_zeros in cache]
    assert len(before) + 1 == len(json.loads(target.get("/grow")))


async def test_a_worker_that_goes_on_keeps_what_may_be_discarded_and_so_does_its_copy(node):
    source = start(node, "--serve", words=("cache",))
    cache = json.loads(wait_for(lambda: source.get("/cache"), "an answer"))
    captured = await node.capture_running(source, "memory-kept")
    assert captured.ok, captured
    assert 0 == manifest_of(node, "memory-kept").gpu.outside[0].discarded
    assert cache == json.loads(source.get("/cache"))
    target = start(node)
    target.init()
    assert (await node.restore(target, "memory-kept", captured.manifest_digest)).ok
    assert cache == json.loads(wait_for(lambda: target.get("/cache"), "an answer"))


@pytest.mark.parametrize(
    ("phase", "goes_on"),
    [
        pytest.param(ReportPhase.GPU_LOCK, True, id="nothing-is-gone-yet"),
        pytest.param(ReportPhase.GPU_SAVE, False, id="it-is-gone"),
        pytest.param(ReportPhase.GPU_CHECKPOINT, False, id="and-the-driver-has-the-rest"),
    ],
)
async def test_no_worker_runs_on_that_has_lost_what_may_be_discarded(node, monkeypatch, phase, goes_on):
    source = ready(node, words=("cache",))
    cache, seen = source.get("/cache"), []
    number = next(number for number, each in enumerate(CAPTURE) if each.name == phase)
    monkeypatch.setattr(engine_module, "CAPTURE", failing(CAPTURE, number))
    ended = engine_module.NodeEngine._capture_failed

    def look_first(*arguments):
        seen.append(source.get("/cache"))
        return ended(*arguments)

    monkeypatch.setattr(engine_module.NodeEngine, "_capture_failed", look_first)
    outcome = await node.capture(source, f"memory-discarded-{phase}")
    assert (False, AgentReason.INTERNAL_ERROR, 1) == (outcome.ok, outcome.reason, source.code())
    assert [cache if goes_on else ""] == seen
