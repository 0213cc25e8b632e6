"""Device memory that a worker maps by itself, and that its processes share: the real library, engine and criu.

The driver is a stand-in, which as the real one refuses to restore what is shared.
"""

import contextlib
import json
import os
import re
import shutil
import socket
import struct
from collections.abc import Callable, Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest

from agent.container.network import in_network
from agent.executor import engine as engine_module
from agent.executor.capture import look as capture_module
from agent.executor.capture.phases import CAPTURE
from agent.gpu.cuda import CudaError
from agent.gpu.device_memory import Conversation
from artifact.manifest import parse_manifest
from contract.api import keys
from contract.api.reports import ReportPhase
from contract.api.states import AgentReason
from tests.node.engine.failures.test_failing_phases import failing
from tests.support import stand_in_cuda
from tests.support.fixtures import engine as engine_fixtures
from tests.support.fixtures.bare_container import PYTHON, BareContainer, wait_for
from tests.support.fixtures.engine import Node, gpu_node, until_ready

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: namespaces and criu")

MIB = 1 << 20
PIECE = 4 * MIB


@pytest.fixture(scope="module")
def library(tmp_path_factory, folder):
    stand_in_cuda.build_device(folder[0] / "tools/libcuda.so.1", devices=3)
    for name in ("device_worker.py", "sharing_worker.py"):
        shutil.copy(Path(engine_fixtures.__file__).with_name(name), folder[0] / f"tools/{name}")
    return stand_in_cuda.build(tmp_path_factory.mktemp("cuda"), devices=3)


@pytest.fixture
def node(folder, library) -> Iterator[Node]:
    with gpu_node(folder, library) as made:
        yield made


BOTH = "nvidia0 nvidia1"


def start(node: Node, *arguments: str, ways: str, outside: bool = True, cards: str = BOTH) -> BareContainer:
    marks = stand_in_cuda.marked(mib="0400", mib1="0400") | {"STAND_IN_DEVICES": str(len(cards.split()))}
    marks |= {keys.ENV_DEVICE_MEMORY: "/tools/device-memory.so"} if outside else {}
    command = [PYTHON, "/tools/sharing_worker.py", *ways.split()]
    return node.start_as(BareContainer, *arguments, "--", *command, devices=cards, env=marks)


def ready(node: Node, ways: str, **options) -> BareContainer:
    source = start(node, "--capture", ways=ways, **options)
    until_ready(source)
    wait_for(source.get, "an answer")
    return source


async def restored(node: Node, name: str, digest: str, ways: str, cards: str = BOTH) -> BareContainer:
    target = start(node, ways=ways, cards=cards)
    target.init()
    outcome = await node.restore(target, name, digest)
    assert outcome.ok, (outcome, target.text())
    return target


async def captured(node: Node, source: BareContainer, name: str):
    outcome = await node.capture(source, name)
    assert outcome.ok, (outcome, source.text())
    return outcome.manifest_digest, parse_manifest((node.store / name / "versions/1/manifest.yaml").read_bytes(), name)


async def test_what_a_worker_maps_by_itself_comes_back_to_its_addresses(node):
    """And handles that it had before mean the same memory, whatever the driver's numbers are now."""
    twin = ready(node, "mapped")
    before = json.loads(twin.get())
    later = json.loads(twin.get("/later"))
    twin.close()
    node.containers.remove(twin)
    source = ready(node, "mapped")
    digest, manifest = await captured(node, source, "shared-mapped")
    (memory,) = manifest.gpu.outside
    assert (6 * PIECE, 4) == (memory.bytes, manifest.format_version)
    target = await restored(node, "shared-mapped", digest, "mapped")
    assert before == json.loads(wait_for(target.get, "an answer"))
    assert later == json.loads(target.get("/later"))
    again = json.loads(target.get())
    outcome = await node.capture_running(target, "shared-mapped-again")
    assert outcome.ok, (outcome, target.text())
    assert again == json.loads(target.get())
    target = await restored(node, "shared-mapped-again", outcome.manifest_digest, "mapped")
    assert again == json.loads(wait_for(target.get, "an answer"))


def both_see_the_same(source: BareContainer) -> list[object]:
    (own, theirs), (of_other, ours) = json.loads(source.get())
    assert (own, theirs) == (ours, of_other)
    assert own != theirs
    return [own, theirs]


@pytest.mark.parametrize(
    "ways",
    ["descriptor", "descriptor across", "ipc", "ipc across", "host", "host across"],
    ids=lambda ways: ways.replace(" ", "-"),
)
async def test_processes_share_memory_again(node, ways):
    """One memory and not two with the same bytes: what either writes the other sees."""
    name = f"shared-{ways.replace(' ', '-')}"
    source = ready(node, ways)
    source.get("/step")
    before = both_see_the_same(source)
    digest, manifest = await captured(node, source, name)
    assert ([1, 1], 5) == ([memory.imported for memory in manifest.gpu.outside], manifest.format_version)
    target = await restored(node, name, digest, ways)
    assert before == wait_for(lambda: both_see_the_same(target), "an answer")
    target.get("/step")
    stepped = both_see_the_same(target)
    assert stepped != before
    if ways.endswith("across"):
        outcome = await node.capture_running(target, f"{name}-again")
        assert outcome.ok, (outcome, target.text())
        assert stepped == both_see_the_same(target)
        target = await restored(node, f"{name}-again", outcome.manifest_digest, ways)
        assert stepped == wait_for(lambda: both_see_the_same(target), "an answer")
    if ways == "ipc":
        own, theirs = stepped
        assert [[theirs], [own]] == json.loads(target.get("/again"))


@pytest.mark.parametrize(
    ("ways", "cards", "others"),
    [
        pytest.param("descriptor", "nvidia0", "nvidia1", id="descriptor"),
        pytest.param("ipc", "nvidia0", "nvidia1", id="ipc"),
        pytest.param("descriptor across", BOTH, "nvidia1 nvidia2", id="descriptor-across"),
        pytest.param("ipc across", BOTH, "nvidia1 nvidia2", id="ipc-across"),
    ],
)
async def test_processes_share_memory_of_other_cards_than_those_of_the_capture(node, ways, cards, others):
    """The driver restores them there, and gives them memory of none: it does not know a card by its new number.

    One of two may be where the other one was.
    """
    name = f"shared-elsewhere-{ways.replace(' ', '-')}"
    source = ready(node, ways, cards=cards)
    source.get("/step")
    before = both_see_the_same(source)
    digest, _ = await captured(node, source, name)
    target = await restored(node, name, digest, ways, others)
    assert before == wait_for(lambda: both_see_the_same(target), "an answer")
    target.get("/step")
    stepped = both_see_the_same(target)
    assert stepped != before
    outcome = await node.capture_running(target, f"{name}-again")
    assert outcome.ok, (outcome, target.text())
    assert stepped == both_see_the_same(target)
    for each in (cards, others):
        again = await restored(node, f"{name}-again", outcome.manifest_digest, ways, each)
        wait_for(again.get, "an answer")
        assert stepped == both_see_the_same(again)
        if ways == "ipc":
            own, theirs = stepped
            assert [[theirs], [own]] == json.loads(again.get("/again")), "and what is opened from then on"


async def test_a_child_does_not_keep_the_socket_of_its_parent(node):
    """It is closed for a capture, and must be there again after it."""
    source = start(node, "--serve", ways="ipc forked")
    wait_for(source.get, "an answer")
    own, theirs = both_see_the_same(source)
    outcome = await node.capture_running(source, "shared-forked")
    assert outcome.ok, (outcome, source.text())
    assert [[theirs], [own]] == json.loads(source.get("/again"))


EXPORT = 14
ZEROS = sha256(bytes(PIECE)).hexdigest()


def test_a_handle_of_freed_memory_means_no_other(node):
    assert [["cuIpcOpenMemHandle_v2: 1"]] * 2 == json.loads(ready(node, "ipc").get("/freed"))


async def test_a_handle_that_is_opened_again_is_the_same_address_until_both_are_closed(node):
    """Also when it was opened before a capture."""
    source = ready(node, "ipc")
    own, theirs = both_see_the_same(source)
    digest, _ = await captured(node, source, "shared-twice")
    target = await restored(node, "shared-twice", digest, "ipc")
    assert [[True, theirs, False], [True, own, False]] == json.loads(
        wait_for(lambda: target.get("/twice"), "an answer")
    )


def test_memory_stays_for_a_handle_that_was_got_while_it_was_open(node):
    source = ready(node, "ipc")
    own, theirs = both_see_the_same(source)
    assert [[theirs], [own]] == json.loads(source.get("/retained"))


def test_a_handle_is_opened_though_its_owner_listens_late_and_a_signal_comes(node):
    assert [[ZEROS], [ZEROS]] == json.loads(ready(node, "ipc").get("/slow"))


def test_a_process_of_another_container_gets_no_memory(node):
    """Though it is of the same user and network, and has the secret: a worker of the same artifact has it too."""
    source = ready(node, "ipc")
    magic, secret, segment, serial = struct.unpack(
        "=8s16x16sII", bytes.fromhex(json.loads(source.get("/handle"))[0][0])[:48]
    )
    assert b"snapipc\0" == magic
    names = re.findall(r"@(snapshot-share/\S+)", Path(f"/proc/{source.init()}/net/unix").read_text())
    assert 2 == len(set(names))

    def answers(name: str) -> tuple[bytes, list[int]]:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as asking:
            asking.connect(f"\0{name}")
            with contextlib.suppress(BrokenPipeError):
                asking.send(struct.pack("=IIQQ64s", EXPORT, segment, serial, 0, secret))
            with contextlib.suppress(ConnectionResetError):
                return socket.recv_fds(asking, 100, 4)[:2]
        return b"", []

    assert [(b"", [])] * 2 == in_network(source.init(), lambda: [answers(name) for name in sorted(set(names))])


def look_after_undoing(monkeypatch, look: Callable[[], None]) -> None:
    """Look at the worker of a capture that has failed, before it learns of that and ends."""
    ended = engine_module.NodeEngine._capture_failed

    def look_first(*arguments):
        look()
        return ended(*arguments)

    monkeypatch.setattr(engine_module.NodeEngine, "_capture_failed", look_first)


@pytest.mark.parametrize(
    ("ways", "path", "reason", "words"),
    [
        pytest.param(
            "descriptor stranger",
            "/",
            AgentReason.GPU_FAILED,
            "find whose memory it has imported",
            id="of-a-process-that-is-not-captured",
        ),
        pytest.param(
            "descriptor bare",
            "/",
            AgentReason.GPU_UNSUPPORTED,
            "started without the library",
            id="that-a-process-without-the-library-may-have",
        ),
        pytest.param(
            "descriptor",
            "/bind",
            AgentReason.GPU_FAILED,
            "give back memory that it has from another process",
            id="of-another-that-must-stay-with-the-driver",
        ),
    ],
)
async def test_memory_that_would_part_is_refused_by_name(node, monkeypatch, ways, path, reason, words, request):
    """An owner would make it again, and the other would keep what was."""
    source, seen = ready(node, ways), []
    source.get(path)
    before = source.get()
    look_after_undoing(monkeypatch, lambda: seen.append(source.get()))
    outcome = await node.capture(source, f"shared-{request.node.callspec.id}")
    assert (False, reason) == (outcome.ok, outcome.reason)
    assert words in outcome.message
    assert [before] == seen


async def test_a_piece_that_was_given_back_in_part_is_mapped_again_everywhere(node, monkeypatch):
    """Two pieces to be copied, three of one mapping, then one of two: only the first of its two is unmapped."""
    source, seen = ready(node, "mapped"), []
    before = source.get()
    source.run("echo 7 > /var/tmp/device-memory-unmaps")
    look_after_undoing(monkeypatch, lambda: seen.append(source.get()))
    outcome = await node.capture(source, "shared-part")
    assert (False, AgentReason.GPU_FAILED) == (outcome.ok, outcome.reason)
    assert "release device memory" in outcome.message
    assert [before] == seen


async def test_memory_that_is_bound_by_its_address_stays_with_the_driver(node):
    source = ready(node, "mapped")
    before = source.get()
    source.get("/bind")
    digest, manifest = await captured(node, source, "shared-bound")
    assert [5 * PIECE] == [memory.bytes for memory in manifest.gpu.outside]
    target = await restored(node, "shared-bound", digest, "mapped")
    assert before == wait_for(target.get, "an answer")


async def test_without_the_library_shared_memory_is_refused_by_the_proof(node):
    outcome = await node.capture(ready(node, "descriptor", outside=False), "shared-inside")
    assert (False, AgentReason.PROOF_FAILED) == (outcome.ok, outcome.reason)


@pytest.mark.parametrize("phase", [ReportPhase.GPU_SAVE, ReportPhase.GPU_CHECKPOINT])
async def test_a_failed_capture_leaves_shared_memory(node, monkeypatch, phase):
    source = ready(node, "descriptor across")
    before, seen = both_see_the_same(source), []
    (number,) = [number for number, each in enumerate(CAPTURE) if each.name == phase]
    monkeypatch.setattr(engine_module, "CAPTURE", failing(CAPTURE, number))

    def look() -> None:
        seen.append(both_see_the_same(source))
        source.get("/step")
        seen.append(before != both_see_the_same(source))

    look_after_undoing(monkeypatch, look)
    outcome = await node.capture(source, f"shared-failed-{number}")
    assert (False, AgentReason.INTERNAL_ERROR) == (outcome.ok, outcome.reason)
    assert [before, True] == seen


async def test_memory_that_was_shared_since_the_worker_was_looked_at_comes_back(node, monkeypatch):
    real, source = capture_module.look_at_libraries, ready(node, "descriptor")

    def look_before(*arguments):
        found = real(*arguments)
        return replace(found, held={pid: replace(held, imported=0) for pid, held in found.held.items()})

    monkeypatch.setattr(capture_module, "look_at_libraries", look_before)
    before = both_see_the_same(source)
    digest, manifest = await captured(node, source, "shared-since")
    assert ([1, 1], 5) == ([memory.imported for memory in manifest.gpu.outside], manifest.format_version)
    target = await restored(node, "shared-since", digest, "descriptor")
    assert before == wait_for(lambda: both_see_the_same(target), "an answer")


async def test_a_process_that_could_not_give_memory_back_shares_it_again(node, monkeypatch):
    """Its owner has made it anew meanwhile: they would go on with two memories."""
    source, real, seen, asked = ready(node, "descriptor"), Conversation.release, [], []
    before = both_see_the_same(source)

    def release(talk: Conversation) -> None:
        asked.append(talk)
        if len(asked) == 1:
            raise CudaError(AgentReason.GPU_FAILED, "it does not answer")
        real(talk)

    def look() -> None:
        seen.append(both_see_the_same(source))
        source.get("/step")
        seen.append(before != both_see_the_same(source))

    monkeypatch.setattr(Conversation, "release", release)
    look_after_undoing(monkeypatch, look)
    outcome = await node.capture(source, "shared-half")
    assert (False, AgentReason.GPU_FAILED) == (outcome.ok, outcome.reason)
    assert [before, True] == seen
