"""Device memory that is in the files of a model: the real library, matcher, engine and criu; a stand-in driver."""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.executor import engine as engine_module
from agent.executor.capture.running import RUNNING
from agent.gpu.ahead.resident import ResidentPrefetcher
from artifact.manifest import parse_manifest
from contract.api import keys
from contract.api.engine import Memory, Way
from contract.api.reports import ReportPhase
from contract.api.states import AgentReason
from contract.pods.probe import Probe
from tests.node.engine.failures.test_failing_phases import failing
from tests.support import stand_in_cuda
from tests.support.fixtures import engine as engine_fixtures
from tests.support.fixtures.bare_container import PYTHON, BareContainer, wait_for
from tests.support.fixtures.engine import COLD, Node, gpu_node, until_ready
from tests.support.models import write_model

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: namespaces and criu")

MIB = 1 << 20
DATA, ZEROS = 8, 32
TENSORS = {"q": 3 * MIB + 512, "k": MIB + 256, "v": 2 * MIB, "changed": 6 * MIB, "large": 24 * MIB, "small": 4096}
REFERRED = 27 * MIB
"""At least: of the joined and the large ones, whatever is no longer than a range that counts at the edges of units."""
PROBE = Probe("HTTP", "127.0.0.1", 8000, timeout=20.0)


@pytest.fixture(scope="module")
def library(tmp_path_factory, folder):
    stand_in_cuda.build_device(folder[0] / "tools/libcuda.so.1")
    shutil.copy(Path(engine_fixtures.__file__).with_name("device_worker.py"), folder[0] / "tools/device_worker.py")
    return stand_in_cuda.build(tmp_path_factory.mktemp("cuda"))


@pytest.fixture
def node(folder, library) -> Iterator[Node]:
    with gpu_node(folder, library, weight_matcher=folder[1] / "bin/weight-matcher") as made:
        yield made


@pytest.fixture
def volume(folder, request) -> Path:
    made = folder[0] / f"models-{request.node.name[:60]}"
    made.mkdir()
    made.chmod(0o755)
    write_model(made / "model.safetensors", TENSORS)
    return made


def start(node: Node, volume: Path, *arguments: str, words: tuple[str, ...] = (), **options) -> BareContainer:
    marks = stand_in_cuda.marked(mib="0400") | {
        keys.ENV_DEVICE_MEMORY: "/tools/device-memory.so",
        "VOLUME": str(volume),
    }
    command = [PYTHON, "/tools/device_worker.py", str(DATA), str(ZEROS), "weights", *words]
    return node.start_as(BareContainer, *arguments, "--", *command, env=marks, **{"devices": "nvidia0", **options})


def manifest_of(node: Node, name: str):
    return parse_manifest((node.store / name / "versions/1/manifest.yaml").read_bytes(), name)


async def captured(node: Node, volume: Path, name: str, **options) -> tuple[list[object], str]:
    """Capture a fresh worker; return what its device memory held, and the digest."""
    said = options.pop("said", None)
    source = start(node, volume, "--capture", **options)
    until_ready(source)
    before = json.loads(wait_for(source.get, "an answer"))
    outcome = await node.capture(source, name, probe=PROBE, refers_to_weights=said)
    assert outcome.ok, (outcome, source.text())
    return before, outcome.manifest_digest


async def restored(node: Node, volume: Path, name: str, digest: str) -> BareContainer:
    target = start(node, volume)
    target.init()
    outcome = await node.restore(target, name, digest)
    assert outcome.ok, (outcome, target.text())
    return target


async def test_weights_are_in_no_file_of_the_artifact_and_are_there_after_a_restore(node, volume):
    before, digest = await captured(node, volume, "weights-whole")
    manifest = manifest_of(node, "weights-whole")
    (memory,) = manifest.gpu.outside
    assert (6, ["/data"], ["model.safetensors"]) == (
        manifest.format_version,
        [each.point for each in manifest.gpu.weights],
        [each.name for each in manifest.gpu.weights],
    )
    assert REFERRED <= sum(memory.referenced) <= sum(TENSORS.values())
    stored = sum(manifest.files[name].size for name in memory.files)
    assert stored + sum(memory.referenced) <= (DATA + 6) * MIB + sum(TENSORS.values()) + 12 * MIB
    target = await restored(node, volume, "weights-whole", digest)
    assert before == json.loads(wait_for(target.get, "an answer"))
    assert len(before) + 1 == len(json.loads(target.get("/grow")))


async def test_a_running_worker_is_captured_and_its_copy_again(node, volume):
    first, digest = await captured(node, volume, "weights-first")
    source = await restored(node, volume, "weights-first", digest)
    stepped = json.loads(wait_for(lambda: source.get("/step"), "an answer"))
    again = await node.capture_running(source, "weights-again")
    assert again.ok, again
    assert stepped == json.loads(source.get())
    (memory,) = manifest_of(node, "weights-again").gpu.outside
    assert REFERRED - 8 * MIB <= sum(memory.referenced)
    target = await restored(node, volume, "weights-again", again.manifest_digest)
    assert stepped == json.loads(wait_for(target.get, "an answer"))
    assert stepped != first


async def test_a_running_worker_goes_on_if_its_weights_cannot_be_moved(node, volume, monkeypatch):
    source = start(node, volume, "--serve")
    before = json.loads(wait_for(source.get, "an answer"))
    (number,) = [n for n, phase in enumerate(RUNNING) if phase.name == ReportPhase.WEIGHTS]
    monkeypatch.setattr(engine_module, "RUNNING", failing(RUNNING, number))
    outcome = await node.capture_running(source, "weights-unmoved")
    assert (False, AgentReason.INTERNAL_ERROR) == (outcome.ok, outcome.reason)
    assert before == json.loads(source.get())
    assert len(before) + 1 == len(json.loads(source.get("/grow")))


def cut_short(model: Path) -> None:
    os.truncate(model, model.stat().st_size - 1)


def change(model: Path) -> None:
    with model.open("r+b") as file:
        file.seek(-1000, os.SEEK_END)
        file.write(b"another")


def link(model: Path) -> None:
    model.rename(model.with_name("moved"))
    model.symlink_to("moved")


def link_out(model: Path) -> None:
    model.unlink()
    model.symlink_to("/etc/passwd")


def pipe(model: Path) -> None:
    model.unlink()
    os.mkfifo(model)


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        pytest.param(Path.unlink, "cannot be read", id="missing"),
        pytest.param(change, "is another file", id="changed"),
        pytest.param(cut_short, "is another file", id="cut-short"),
        pytest.param(link, "cannot be read", id="a-link-in-its-place"),
        pytest.param(link_out, "cannot be read", id="a-link-out-of-the-volume"),
        pytest.param(pipe, "cannot be read", id="a-pipe-in-its-place"),
    ],
)
async def test_another_file_is_a_cold_start(node, volume, harm, words):
    name = f"weights-harm-{harm.__name__}".replace("_", "-")
    _, digest = await captured(node, volume, name)
    kept = volume.with_name(f"{volume.name}-kept")
    shutil.copytree(volume, kept)
    harm(volume / "model.safetensors")
    target = start(node, volume)
    target.init()
    outcome = await node.restore(target, name, digest)
    assert (False, AgentReason.WEIGHTS_CHANGED) == (outcome.ok, outcome.reason), outcome
    assert "/data/model.safetensors" in outcome.message
    assert words in outcome.message
    assert target.says(COLD)
    assert (await restored(node, kept, name, digest)).get()


async def test_a_file_that_the_worker_may_not_read_is_not_its_own(node, volume):
    before, digest = await captured(node, volume, "weights-readable", user=1234)
    assert before
    (volume / "model.safetensors").chmod(0o600)
    target = start(node, volume, user=1234)
    target.init()
    outcome = await node.restore(target, "weights-readable", digest)
    assert (False, AgentReason.WEIGHTS_CHANGED) == (outcome.ok, outcome.reason), outcome


async def test_a_file_that_is_changed_while_it_is_read_is_a_cold_start(node, volume):
    _, digest = await captured(node, volume, "weights-meanwhile")
    engine_fixtures.AfterCriu(node, lambda _: change(volume / "model.safetensors"))
    target = start(node, volume)
    target.init()
    outcome = await node.restore(target, "weights-meanwhile", digest)
    assert (False, AgentReason.WEIGHTS_CHANGED) == (outcome.ok, outcome.reason), outcome
    assert "while it was read" in outcome.message
    assert target.says(COLD)


async def test_without_the_matcher_all_is_stored(folder, library, volume):
    with gpu_node(folder, library) as node:
        await captured(node, volume, "weights-stored")
        manifest = manifest_of(node, "weights-stored")
    assert (4, [], None) == (manifest.format_version, manifest.gpu.weights, manifest.gpu.outside[0].ranges)


@pytest.mark.parametrize(
    ("of_node", "said", "expected"),
    [
        pytest.param(False, None, 4, id="the-node-says-no"),
        pytest.param(True, False, 4, id="the-pod-says-no"),
        pytest.param(False, True, 6, id="the-pod-says-yes"),
    ],
)
async def test_the_pods_owner_goes_before_the_node(folder, library, volume, of_node, said, expected):
    name, matcher = f"weights-{of_node}-{said}".lower(), folder[1] / "bin/weight-matcher"
    with gpu_node(folder, library, weight_matcher=matcher, refers_to_weights=of_node) as node:
        await captured(node, volume, name, said=said)
        assert expected == manifest_of(node, name).format_version


async def test_a_matcher_that_fails_is_no_failure_of_the_capture(folder, library, volume):
    with gpu_node(folder, library, weight_matcher=Path("/bin/false")) as node:
        before, digest = await captured(node, volume, "weights-failed")
        assert 4 == manifest_of(node, "weights-failed").format_version
        target = await restored(node, volume, "weights-failed", digest)
        assert before == json.loads(wait_for(target.get, "an answer"))


async def test_names_that_are_links_within_a_volume_are_followed_once(node, volume):
    (volume / "blobs").mkdir()
    (volume / "snapshots").mkdir()
    (volume / "model.safetensors").rename(volume / "blobs/0123")
    (volume / "snapshots/model.safetensors").symlink_to("../blobs/0123")
    (volume / "model.safetensors").symlink_to("snapshots/model.safetensors")
    before, digest = await captured(node, volume, "weights-hub")
    assert ["blobs/0123"] == [each.name for each in manifest_of(node, "weights-hub").gpu.weights]
    target = await restored(node, volume, "weights-hub", digest)
    assert before == json.loads(wait_for(target.get, "an answer"))


@pytest.fixture
def two_cards(folder, library, tmp_path_factory) -> Iterator[Node]:
    tools = folder[0] / "tools"
    stand_in_cuda.build_device(tools / "libcuda.so.1", devices=2)
    made = stand_in_cuda.build(tmp_path_factory.mktemp("cuda"), devices=2)
    prefetcher = ResidentPrefetcher(lambda: str(tools / "libcuda.so.1"))
    with gpu_node(folder, made, prefetcher=prefetcher, weight_matcher=folder[1] / "bin/weight-matcher") as node:
        yield node
    prefetcher.close()
    stand_in_cuda.build_device(tools / "libcuda.so.1")


@pytest.mark.parametrize("word", [pytest.param("two", id="one-process"), pytest.param("ranks", id="two-processes")])
async def test_weights_of_a_worker_with_two_cards(two_cards, volume, word):
    name, options = f"weights-{word}", {"words": (word,), "devices": "nvidia0 nvidia1"}
    before, digest = await captured(two_cards, volume, name, **options)
    outside = manifest_of(two_cards, name).gpu.outside
    assert [True] * (2 if word == "ranks" else 1) == [sum(memory.referenced) >= REFERRED for memory in outside]
    target = start(two_cards, volume, **options)
    target.init()
    outcome = await two_cards.restore(target, name, digest)
    assert outcome.ok, (outcome, target.text())
    assert before == json.loads(wait_for(target.get, "an answer"))


def maps_of(prefetcher: ResidentPrefetcher) -> str:
    return Path(f"/proc/{prefetcher._process._process.pid}/maps").read_text()


async def test_weights_are_read_onto_the_card_ahead(folder, library, volume):
    prefetcher = ResidentPrefetcher(lambda: str(folder[0] / "tools/libcuda.so.1"), budget=512 * MIB)
    matcher = folder[1] / "bin/weight-matcher"
    with gpu_node(folder, library, prefetcher=prefetcher, weight_matcher=matcher) as node:
        before, digest = await captured(node, volume, "weights-ahead")
        target = start(node, volume)
        target.init()
        outcome = await node.restore(target, "weights-ahead", digest)
        assert outcome.ok, (outcome, target.text())
        assert before == json.loads(wait_for(target.get, "an answer"))
        ahead = [each.bytes for each in outcome.engine.came if (each.memory, each.way) == (Memory.DEVICE, Way.AHEAD)]
        manifest = manifest_of(node, "weights-ahead")
        (memory,) = manifest.gpu.outside
        assert [sum(manifest.files[name].size for name in memory.files) + sum(memory.referenced)] == ahead
        assert str(volume) not in maps_of(prefetcher)
    prefetcher.close()


async def test_a_parked_worker_finds_its_weights_at_the_wake(node, volume):
    before, digest = await captured(node, volume, "weights-parked")
    target = start(node, volume, keys.STANDBY_PARK)
    target.init()
    parked = await node.restore(target, "weights-parked", digest, parks=True)
    assert (True, True) == (parked.ok, parked.parked), parked
    woken = await node.restore(target, "weights-parked", digest)
    assert woken.ok, (woken, target.text())
    assert before == json.loads(wait_for(target.get, "an answer"))
