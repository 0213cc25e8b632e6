"""Device memory of workers with two devices outside the image: the real library, engine and criu; a stand-in driver.

The stand-in keeps the driver's rules: what is mapped for one device is not there for the other, and what devices share
at a checkpoint cannot be restored.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from agent.executor import engine as engine_module
from agent.executor.capture.phases import CAPTURE
from agent.gpu.ahead.prefetch import Part, Prefetch
from agent.gpu.ahead.resident import ResidentPrefetcher
from artifact.manifest import parse_manifest
from contract.api import keys
from contract.api.engine import Way
from contract.api.reports import ReportPhase
from contract.api.states import AgentReason
from tests.node.engine.failures.test_failing_phases import failing
from tests.support import stand_in_cuda
from tests.support.fixtures import engine as engine_fixtures
from tests.support.fixtures.bare_container import PYTHON, BareContainer, wait_for
from tests.support.fixtures.engine import Node, gpu_node, until_ready

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: namespaces and criu")

MIB = 1 << 20
DATA, ZEROS = 32, 64
ILLEGAL_ADDRESS = 700
FIRST, SECOND = "ab" * 16, "ac" * 16


def looks(answers: Sequence[object]) -> tuple[set[int], set[bool], set[bool]]:
    """Return what kernels answered, whether they saw what is there, and whether copies arrived."""
    kernels = [kernel for of_device in answers if isinstance(of_device, list) for kernel in of_device]
    copies = {answer for answer in answers if not isinstance(answer, list)}
    return {result for result, _ in kernels}, {seen for result, seen in kernels if result == 0}, copies


ALL = ({0}, {True}, {True})
COPIES_ALONE = ({ILLEGAL_ADDRESS}, set(), {True})
"""With peer access, and without."""


class Watched:
    """The real prefetcher; notes what each device is asked for, and may ask the other one instead."""

    def __init__(self, library: Path):
        self._real = ResidentPrefetcher(lambda: str(library))
        self.close, self.prepare = self._real.close, self._real.prepare
        self.asked: dict[str, int] = {}
        self.exchanged = False

    def start(self, device: str, files: Sequence[int], parts: Sequence[Part], room: int, **options) -> Prefetch:
        self.asked[device] = self.asked.get(device, 0) + sum(part.size for part in parts)
        if self.exchanged:
            device = {FIRST: SECOND, SECOND: FIRST}[device]
        return self._real.start(device, files, parts, room, **options)


@pytest.fixture(scope="module")
def library(tmp_path_factory, folder):
    stand_in_cuda.build_device(folder[0] / "tools/libcuda.so.1", devices=2)
    shutil.copy(Path(engine_fixtures.__file__).with_name("device_worker.py"), folder[0] / "tools/device_worker.py")
    return stand_in_cuda.build(tmp_path_factory.mktemp("cuda"), devices=2)


@pytest.fixture
def watched(folder, library) -> Iterator[Watched]:
    made = Watched(folder[0] / "tools/libcuda.so.1")
    yield made
    made.close()


@pytest.fixture
def node(folder, library, watched) -> Iterator[Node]:
    with gpu_node(folder, library, prefetcher=watched) as made:
        yield made


def start(node: Node, *arguments: str, words: Sequence[str]) -> BareContainer:
    marks = stand_in_cuda.marked(mib="0400", mib1="0400") | {keys.ENV_DEVICE_MEMORY: "/tools/device-memory.so"}
    command = [PYTHON, "/tools/device_worker.py", str(DATA), str(ZEROS), *words]
    return node.start_as(BareContainer, *arguments, "--", *command, devices="nvidia0 nvidia1", env=marks)


def ready(node: Node, *words: str) -> BareContainer:
    source = start(node, "--capture", words=words)
    until_ready(source)
    wait_for(source.get, "an answer")
    return source


async def captured(node: Node, source: BareContainer, name: str):
    """Capture it; return the digest, what the manifest says of GPUs, and the bytes that files have of each device."""
    outcome = await node.capture(source, name)
    assert outcome.ok, (outcome, source.text())
    assert 0 == source.code()
    manifest = parse_manifest((node.store / name / "versions/1/manifest.yaml").read_bytes(), name)
    stored = [0, 0]
    for memory in manifest.gpu.outside:
        for file, device in zip(memory.files, memory.devices, strict=True):
            stored[device] += manifest.files[file].size
    return outcome.manifest_digest, manifest.gpu, stored


async def restored(node: Node, name: str, digest: str, *words: str) -> BareContainer:
    target = start(node, words=words)
    target.init()
    outcome = await node.restore(target, name, digest)
    assert outcome.ok, (outcome, target.text())
    assert ReportPhase.GPU_PREFETCH in outcome.seconds, outcome.seconds
    return target


@pytest.mark.parametrize(
    ("words", "processes", "least"),
    [
        pytest.param(["two"], 1, [DATA, DATA // 2], id="one-process-with-both"),
        pytest.param(["second"], 1, [0, DATA // 2], id="one-that-sees-both-and-uses-the-second"),
        pytest.param(["ranks"], 2, [DATA, DATA // 2], id="two-processes-with-one-each"),
    ],
)
async def test_memory_of_each_device_is_outside_and_comes_back_to_it(node, watched, words, processes, least):
    name = f"devices-{words[0]}"
    source = ready(node, *words)
    before = json.loads(source.get("/step"))
    digest, gpu, stored = await captured(node, source, name)
    assert processes == len(gpu.outside)
    assert [FIRST, SECOND] == [device.uuid for device in gpu.devices]
    for has, data in zip(stored, least, strict=True):
        assert data * MIB <= has <= (data + 10) * MIB * (data > 0), stored
    watched.asked.clear()
    target = await restored(node, name, digest, *words)
    assert before == json.loads(wait_for(target.get, "an answer"))
    assert {uuid: size for uuid, size in zip((FIRST, SECOND), stored, strict=True) if size} == watched.asked
    assert len(before) < len(json.loads(target.get("/grow")))


@pytest.mark.parametrize("word", [pytest.param("two", id="beside-other-memory"), pytest.param("beside", id="alone")])
async def test_what_may_be_discarded_is_on_its_own_device_again(node, word):
    name = f"devices-discarded-{word}"
    source = ready(node, word, "cache")
    before, cache = json.loads(source.get()), json.loads(source.get("/cache"))
    digest, gpu, stored = await captured(node, source, name)
    assert [48 * MIB] == [memory.discarded for memory in gpu.outside]
    assert stored[1] <= (DATA // 2 + 10) * MIB * (word == "two"), stored
    target = await restored(node, name, digest, word, "cache")
    assert before == json.loads(wait_for(target.get, "an answer"))
    assert [[at, True] for at, *_ in cache] == [[at, is_zeros] for at, _, is_zeros in json.loads(target.get("/cache"))]


async def test_one_process_has_the_parts_of_both_cards(node, watched):
    source = ready(node, "two")
    digest, _, stored = await captured(node, source, "devices-both-ahead")
    target = start(node, words=("two",))
    target.init()
    outcome = await node.restore(target, "devices-both-ahead", digest)
    assert outcome.ok, (outcome, target.text())
    assert [sum(stored)] == [each.bytes for each in outcome.engine.came if each.way is Way.AHEAD]


async def test_a_part_on_another_card_than_its_memory_comes_there_all_the_same(node, watched):
    source = ready(node, "two")
    before = json.loads(source.get("/step"))
    digest, _, stored = await captured(node, source, "devices-exchanged")
    watched.exchanged = True
    target = start(node, words=("two",))
    target.init()
    outcome = await node.restore(target, "devices-exchanged", digest)
    assert outcome.ok, (outcome, target.text())
    assert [sum(stored)] == [each.bytes for each in outcome.engine.came if each.way is Way.AHEAD]
    assert before == json.loads(wait_for(target.get, "an answer"))


@pytest.mark.parametrize(
    ("word", "found"),
    [pytest.param("two", COPIES_ALONE, id="none"), pytest.param("peer", ALL, id="given")],
)
async def test_peer_access_is_what_it_was(node, word, found):
    """It is taken away for the checkpoint, and given again; memory is mapped for those that have it, and no other."""
    source = ready(node, word)
    before = json.loads(source.get())
    assert found == looks(json.loads(source.get("/across")))
    digest, *_ = await captured(node, source, f"devices-{word}-access")
    target = await restored(node, f"devices-{word}-access", digest, word)
    assert before == json.loads(wait_for(target.get, "an answer"))
    assert found == looks(json.loads(target.get("/across")))
    if word == "peer":
        assert COPIES_ALONE == looks(json.loads(target.get("/away")))
    assert len(before) + 2 == len(json.loads(target.get("/grow")))


async def test_a_kernel_of_another_device_ends_before_memory_is_saved(node):
    """That device has no memory of ours, and the driver's lock does not wait for kernels."""
    source = ready(node, "beside")
    assert [0x5A] != json.loads(source.get("/byte"))
    assert [] == json.loads(source.get("/later"))
    digest, *_ = await captured(node, source, "devices-beside")
    target = await restored(node, "devices-beside", digest, "beside")
    assert [0x5A] == json.loads(wait_for(lambda: target.get("/byte"), "an answer"))


FORKS = """
import ctypes, os, signal, sys, threading
cuda = ctypes.CDLL(sys.argv[1], mode=ctypes.RTLD_GLOBAL)
contexts, made = (ctypes.c_void_p * 2)(), (ctypes.c_uint64 * 2)()
for device in (0, 1):
    context = ctypes.c_void_p()
    assert cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), device) == 0
    contexts[device] = context.value
    assert cuda.cuCtxSetCurrent(context) == 0
    assert cuda.cuMemAlloc_v2(ctypes.byref(made, 8 * device), ctypes.c_size_t(2 << 20)) == 0
at, size = ctypes.c_uint64(made[0]), ctypes.c_size_t(64)

def copy():
    cuda.cuCtxSetCurrent(ctypes.c_void_p(contexts[0]))
    while True:
        for _ in range(1000):
            cuda.cuMemcpyDtoDAsync_v2(at, at, size, None)

for _ in range(3):
    threading.Thread(target=copy, daemon=True).start()
for _ in range(200):
    child = os.fork()
    if child == 0:
        signal.alarm(5)
        cuda.cuMemcpyDtoDAsync_v2(at, at, size, None)
        cuda.cuMemFree_v2(ctypes.c_uint64(12345))
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    if status:
        print("hung" if os.WTERMSIG(status) == signal.SIGALRM else status)
        os._exit(1)
os._exit(0)
"""


def test_a_child_forked_while_others_copy_does_not_wait(folder, library):
    """CUDA does not work in it, but says so: a mutex of ours that another thread held is held by none in the child."""
    tools = folder[0] / "tools"
    environment = os.environ | stand_in_cuda.marked(mib="0400", mib1="0400")
    environment |= {"LD_PRELOAD": str(tools / "device-memory.so")}
    argv = [PYTHON, "-c", FORKS, str(tools / "libcuda.so.1")]
    ended = subprocess.run(argv, env=environment, check=False, capture_output=True, text=True, timeout=120)
    assert (0, "") == (ended.returncode, ended.stdout), ended.stderr


@pytest.mark.parametrize("phase", [ReportPhase.GPU_SAVE, ReportPhase.GPU_CHECKPOINT])
async def test_a_failed_capture_leaves_memory_and_peer_access(node, monkeypatch, phase):
    source = ready(node, "peer")
    before, seen = json.loads(source.get()), []
    (number,) = [number for number, each in enumerate(CAPTURE) if each.name == phase]
    monkeypatch.setattr(engine_module, "CAPTURE", failing(CAPTURE, number))
    ended = engine_module.NodeEngine._capture_failed

    def look_first(*arguments):
        seen.extend([json.loads(source.get()), looks(json.loads(source.get("/across")))])
        return ended(*arguments)

    monkeypatch.setattr(engine_module.NodeEngine, "_capture_failed", look_first)
    outcome = await node.capture(source, f"devices-failed-{number}")
    assert (False, AgentReason.INTERNAL_ERROR) == (outcome.ok, outcome.reason)
    assert [before, ALL] == seen
