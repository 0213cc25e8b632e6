"""Device memory that is on the card before its process is: the real library, engine and criu; a stand-in driver."""

import json
import logging
import os
import shutil
import signal
from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import Path, PurePosixPath

import pytest

from agent.executor import engine as engine_module
from agent.executor.api import ExecutionResult
from agent.executor.restore import devices
from agent.executor.restore.phases import RESTORE
from agent.gpu.ahead import prefetch, resident
from agent.gpu.ahead.prefetch import Part, Prefetch
from agent.gpu.ahead.resident import ResidentPrefetcher
from agent.gpu.ranges import UNIT
from artifact.manifest import DEVICE_MEMORY
from contract.api import keys
from contract.api.engine import Because, Memory, Way
from contract.api.reports import ReportPhase
from contract.api.states import AgentReason
from images.native import compile_device_memory
from tests.node.engine.failures.test_failing_phases import failing
from tests.support import stand_in_cuda
from tests.support.fixtures import engine as engine_fixtures
from tests.support.fixtures.bare_container import PYTHON, BareContainer, wait_for
from tests.support.fixtures.engine import COLD, Node, captured_after_step, gpu_node
from tests.support.fixtures.tools import PROJECT

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: namespaces and criu")

MIB = 1 << 20
DATA, ZEROS = 32, 64
OWN = (DATA + ZEROS + 16) * MIB
"""Device memory of the worker, or a little more."""


class Watched:
    """The real prefetcher; counts what is handed over, and can do harm to it."""

    def __init__(self, library: Path):
        self._real = ResidentPrefetcher(lambda: str(library), budget=512 * MIB)
        self.prepare = self._real.prepare
        self.given: list[Part] = []
        self.most: int | None = None
        """Parts that are ordered; None: all."""
        self.killed_at: int | None = None
        """Parts that come before the process is killed."""
        self.blank = False
        """Whether zeros go to the card in place of what the files have."""

    def start(self, device: str, files: Sequence[int], parts: Sequence[Part], room: int, **options) -> Prefetch:
        copies = [_blank(file) for file in files] if self.blank else []
        self._order = self._real.start(device, copies or files, parts[: self.most], room, **options)
        self.parts = self._order.parts
        for copy in copies:
            os.close(copy)
        return self

    def filled(self, buffers: Sequence[int], seconds: float) -> Iterator[prefetch.Filled]:
        for filled in self._order.filled(buffers, seconds):
            self.given.append(filled.part)
            yield filled
            if self.killed_at == len(self.given):
                self._real._process._process.kill()
                self._real._process._process.wait()

    def done(self, filled: prefetch.Filled, *, copied: bool) -> None:
        self._order.done(filled, copied=copied)

    def close(self) -> None:
        self._order.close()

    def came(self) -> prefetch.Came:
        return self._order.came()


def _blank(file: int) -> int:
    made = os.memfd_create("blank")
    os.truncate(made, os.fstat(file).st_size)
    return made


@pytest.fixture(scope="module")
def library(tmp_path_factory, folder):
    tools = folder[0] / "tools"
    stand_in_cuda.build_device(tools / "libcuda.so.1")
    shutil.copy(Path(engine_fixtures.__file__).with_name("device_worker.py"), tools / "device_worker.py")
    compile_device_memory(PROJECT / "native/device_memory", tools / "small-parts.so", "-DPART_UNITS=1")
    return stand_in_cuda.build(tmp_path_factory.mktemp("cuda"))


@pytest.fixture
def watched(folder, library) -> Iterator[Watched]:
    made = Watched(folder[0] / "tools/libcuda.so.1")
    yield made
    made._real.close()


@pytest.fixture
def node(folder, library, watched) -> Iterator[Node]:
    with gpu_node(folder, library, prefetcher=watched) as made:
        yield made


def start(node: Node, *arguments: str, library: str = "device-memory.so") -> BareContainer:
    marks = stand_in_cuda.marked(mib="0400") | {keys.ENV_DEVICE_MEMORY: f"/tools/{library}"}
    command = [PYTHON, "/tools/device_worker.py", str(DATA), str(ZEROS)]
    return node.start_as(BareContainer, *arguments, "--", *command, devices="nvidia0", env=marks)


async def captured(node: Node, name: str, **options) -> tuple[list[object], str]:
    return await captured_after_step(node, start(node, "--capture", **options), name)


def came_from(outcome: ExecutionResult, way: Way) -> dict[Because, int]:
    """Return the device memory that came in a way, by the reason."""
    return {each.because: each.bytes for each in outcome.engine.came if (each.memory, each.way) == (Memory.DEVICE, way)}


async def restored(
    node: Node, name: str, digest: str, room: int | None = None, watched: Watched | None = None
) -> BareContainer:
    target = start(node)
    target.init()
    if room is not None:
        target.run(f"echo {room} > /var/tmp/device-memory-full")
    outcome = await node.restore(target, name, digest)
    assert outcome.ok, (outcome, target.text())
    assert ReportPhase.GPU_PREFETCH in outcome.seconds, outcome.seconds
    if watched is not None:
        given = sum(part.size for part in watched.given)
        taken = {Because.ROOM: given} if given else {}
        assert taken == came_from(outcome, Way.AHEAD)
        (planned,) = [each.bytes for each in outcome.engine.plan if each.way is Way.AHEAD]
        late = {Because.NOT_IN_TIME: planned - given} if planned > given else {}
        assert late == came_from(outcome, Way.FILES)
    return target


@pytest.fixture
def small_parts(monkeypatch):
    monkeypatch.setattr(prefetch, "PART", UNIT)


@pytest.mark.parametrize(
    ("preloaded", "part"),
    [pytest.param("device-memory.so", prefetch.PART, id="whole"), pytest.param("small-parts.so", UNIT, id="small")],
)
async def test_device_memory_is_copied_from_the_card(node, watched, monkeypatch, preloaded, part):
    monkeypatch.setattr(prefetch, "PART", part)
    name = f"ahead-copied-{part // UNIT}"
    before, digest = await captured(node, name, library=preloaded)
    watched.given.clear()  # the proof's
    target = await restored(node, name, digest, watched=watched)
    assert before == json.loads(wait_for(target.get, "an answer"))
    # One for each thread that came to store something: on a busy machine that may be one alone.
    stored = [path for path in (node.store / name / "versions/1").glob(f"{DEVICE_MEMORY}*") if path.stat().st_size]
    assert len(stored) == len({part.file for part in watched.given})
    assert DATA * MIB <= sum(part.size for part in watched.given) <= (DATA + 8) * MIB
    watched.blank = True
    target = await restored(node, name, digest)
    found = json.loads(wait_for(target.get, "an answer"))
    blank = [[at, size, sha256(bytes(size)).hexdigest() if size >= UNIT else kept] for at, size, kept in before]
    assert blank == found, "some of it was read from the files, though it was on the card"


def mapped(watched: Watched) -> int:
    """Return how many files of artifacts the process that reads them has mapped."""
    maps = Path(f"/proc/{watched._real._process._process.pid}/maps").read_text()
    return sum(f"/{DEVICE_MEMORY}" in line for line in maps.splitlines())


async def test_page_cache_that_is_registered_is_copied_by_the_card(node, watched):
    before, digest = await captured(node, "ahead-registered")
    files = len({part.file for part in watched.given})  # that the proof was given
    assert files
    wait_for(lambda: files == mapped(watched), "registered files")
    watched.given.clear()
    target = await restored(node, "ahead-registered", digest, watched=watched)
    assert before == json.loads(wait_for(target.get, "an answer"))
    assert files == mapped(watched)
    shutil.rmtree(node.store / "ahead-registered")
    wait_for(lambda: not mapped(watched), "their end")


async def test_without_a_budget_no_page_cache_stays_registered(node, watched, caplog):
    caplog.set_level(logging.INFO, "agent.gpu.ahead.resident")
    watched._real._budget = 0
    before, digest = await captured(node, "ahead-no-budget")
    target = await restored(node, "ahead-no-budget", digest)
    assert before == json.loads(wait_for(target.get, "an answer"))
    assert 0 == mapped(watched)
    assert "registered" not in caplog.text


async def test_files_of_a_pods_own_volume_are_not_kept_open(node, watched, monkeypatch):
    real = watched.start
    kept = []
    monkeypatch.setattr(
        watched, "start", lambda *given, keeps, **more: kept.append(keeps) or real(*given, keeps=keeps, **more)
    )
    _, digest = await captured(node, "ahead-volume")
    target = start(node)
    target.init()
    base = PurePosixPath("/checkpoints")
    outcome = await node.restore(target, "ahead-volume", digest, base_path=base, through_pod=True)
    assert outcome.ok, outcome
    assert [True, False] == kept, "the proof's is in the node's store"


@pytest.mark.parametrize(
    ("most", "killed_at"),
    [
        pytest.param(None, None, id="all-of-them"),
        pytest.param(1, None, id="one"),
        pytest.param(9, None, id="some"),
        pytest.param(0, None, id="none"),
        pytest.param(None, 3, id="killed-after-three"),
    ],
)
async def test_what_is_not_on_the_card_is_read_from_the_files(node, watched, small_parts, most, killed_at):
    name = f"ahead-{most}-{killed_at}".lower()
    before, digest = await captured(node, name, library="small-parts.so")
    watched.most, watched.killed_at = most, killed_at
    watched.given.clear()
    target = await restored(node, name, digest, watched=watched)
    assert before == json.loads(wait_for(target.get, "an answer"))
    assert len(before) + 1 == len(json.loads(target.get("/grow")))
    if most is not None:
        assert most == len(watched.given)
    watched.most = watched.killed_at = None
    again = await restored(node, name, digest)
    assert before == json.loads(wait_for(again.get, "an answer"))


@pytest.mark.parametrize(
    "preloaded",
    [pytest.param("small-parts.so", id="small-parts"), pytest.param("device-memory.so", id="whole-parts")],
)
async def test_the_card_has_no_room_for_both(node, watched, monkeypatch, preloaded):
    """What is on the card ahead is never in the way of the worker's own memory."""
    if preloaded == "small-parts.so":
        monkeypatch.setattr(prefetch, "PART", UNIT)
    name = f"ahead-room-{preloaded[0]}"
    before, digest = await captured(node, name, library=preloaded)
    watched.given.clear()
    target = await restored(node, name, digest, room=OWN + 16 * MIB)
    assert watched.given
    assert before == json.loads(wait_for(target.get, "an answer"))
    target.run("rm /var/tmp/device-memory-full")
    assert len(before) + 1 == len(json.loads(target.get("/grow")))


async def test_the_reading_ahead_is_on_the_time_line_beside_the_phases(node, watched):
    _, digest = await captured(node, "ahead-line")
    target = start(node)
    target.init()
    outcome = await node.restore(target, "ahead-line", digest)
    line = {step.phase: step for step in outcome.steps}
    ahead, began = line[ReportPhase.GPU_AHEAD], line[ReportPhase.GPU_PREFETCH]
    assert began.start <= ahead.start <= began.start + began.seconds
    assert ahead.start < line[ReportPhase.CRIU].start < line[ReportPhase.VERDICT].start
    assert ReportPhase.GPU_AHEAD not in outcome.seconds
    assert 0 <= outcome.seconds[ReportPhase.OTHER]


async def test_no_room_at_all_is_a_cold_start(node):
    _, digest = await captured(node, "ahead-full")
    target = start(node)
    target.init()
    target.run(f"echo {OWN // 2} > /var/tmp/device-memory-full")
    outcome = await node.restore(target, "ahead-full", digest)
    assert (False, AgentReason.GPU_MEMORY) == (outcome.ok, outcome.reason), outcome
    assert target.says(COLD)


async def test_a_gpu_for_one_process_at_a_time_has_no_context_of_the_agents(folder, library, watched, tmp_path):
    """It would keep every worker of the node from its GPU, those that never opted in too."""
    exclusive = stand_in_cuda.build(tmp_path, 1, stand_in_cuda.VERSION, "EXCLUSIVE")
    with gpu_node(folder, exclusive, prefetcher=watched) as node:
        before, digest = await captured(node, "ahead-exclusive")
        target = start(node)
        target.init()
        outcome = await node.restore(target, "ahead-exclusive", digest)
        assert outcome.ok, (outcome, target.text())
        assert ReportPhase.GPU_PREFETCH not in outcome.seconds
        assert [Because.NO_ROOM] == list(came_from(outcome, Way.FILES))
        assert before == json.loads(wait_for(target.get, "an answer"))
        assert not watched.given


async def test_without_a_driver_for_it_the_files_are_read(folder, library):
    prefetcher = ResidentPrefetcher(lambda: "/nonexistent/libcuda.so.1")
    with gpu_node(folder, library, prefetcher=prefetcher) as node:
        before, digest = await captured(node, "ahead-absent")
        target = await restored(node, "ahead-absent", digest)
        assert before == json.loads(wait_for(target.get, "an answer"))


async def test_a_process_that_stands_still_is_not_waited_for(node, watched, monkeypatch):
    monkeypatch.setattr(resident, "_STALLED_SECONDS", 0.3)
    before, digest = await captured(node, "ahead-still")
    watched.prepare()
    wait_for(lambda: watched._real._process._process, "a process")
    stopped = watched._real._process
    stopped._process.send_signal(signal.SIGSTOP)
    target = await restored(node, "ahead-still", digest)
    assert before == json.loads(wait_for(target.get, "an answer"))
    wait_for(lambda: not stopped.alive, "its end")


async def test_a_restore_that_fails_with_memory_on_the_card_leaves_nothing_there(node, watched, monkeypatch):
    _, digest = await captured(node, "ahead-failed")
    target = start(node)
    target.init()
    (number,) = [n for n, phase in enumerate(RESTORE) if phase.name == ReportPhase.GPU_PREFETCH]
    monkeypatch.setattr(engine_module, "RESTORE", failing(RESTORE, number))
    outcome = await node.restore(target, "ahead-failed", digest)
    assert (False, AgentReason.INTERNAL_ERROR) == (outcome.ok, outcome.reason)
    assert target.says(COLD)
    assert watched._order._ended
    assert not watched._order._waiting


async def test_a_parked_worker_gets_its_device_memory_at_the_wake(node, watched):
    """Nothing of it is on the card before; then it is read there while the driver works."""
    before, digest = await captured(node, "ahead-parked")
    watched.given.clear()
    target = start(node, keys.STANDBY_PARK)
    target.init()
    parked = await node.restore(target, "ahead-parked", digest, parks=True)
    assert (True, True, []) == (parked.ok, parked.parked, watched.given), parked

    woken = await node.restore(target, "ahead-parked", digest)

    assert woken.ok, (woken, target.text())
    assert watched.given
    assert before == json.loads(wait_for(target.get, "an answer"))
    assert len(before) + 1 == len(json.loads(target.get("/grow")))


@pytest.mark.parametrize("wrong", [pytest.param("pages-", id="host"), pytest.param(DEVICE_MEMORY, id="device")])
async def test_memory_that_is_other_than_it_was_never_serves(node, monkeypatch, wrong):
    """Its sums are taken while criu and the driver work; no thread of it runs before the host's memory is right."""
    name = f"ahead-wrong-{wrong.strip('-')}"
    _, digest = await captured(node, name)
    file = max((node.store / name / "versions/1").glob(f"{wrong}*"), key=lambda path: path.stat().st_size)
    file.chmod(0o600)
    with file.open("r+b") as opened:
        opened.seek(file.stat().st_size // 2)
        byte = opened.read(1)
        opened.seek(-1, os.SEEK_CUR)
        opened.write(bytes([byte[0] ^ 1]))
    target = start(node)
    target.init()
    restored_by_driver = []
    bring_back = devices.bring_back
    monkeypatch.setattr(devices, "bring_back", lambda *given: restored_by_driver.append(1) or bring_back(*given))
    outcome = await node.restore(target, name, digest)

    assert (False, AgentReason.ARTIFACT_CORRUPT) == (outcome.ok, outcome.reason), outcome
    assert file.name in outcome.message
    assert ReportPhase.ENTER in outcome.seconds
    assert wrong != "pages-" or not restored_by_driver
    assert target.says(COLD)
