"""What a worker touched until it answered, in the proof of its artifact, is what a restore fills first."""

import os
import re
import shutil
import signal
import struct
from dataclasses import replace

import pytest

from agent import protobuf
from agent.executor.engine import NodeEngine
from artifact.hot_set import HOT_SET, pack, unpack
from contract.api import control_files
from contract.api.reports import HotSet, MemoryRestore
from contract.api.states import AgentReason
from contract.pods.probe import Probe
from images.native import compile_static
from tests.support.fixtures.bare_container import PYTHON, BareContainer, wait_for
from tests.support.fixtures.engine import AfterCriu, Node
from tests.support.fixtures.tools import PROJECT

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: namespaces and criu")

MIB, APART = 256, 2
TOUCHED = MIB // APART
"""Pages that the worker reads for each answer, so far apart that each is a fault of its own."""
WORKER = """
import ctypes, http.server, mmap, os, sys, threading
sys.path.insert(0, "/tools")
import snapshot_sdk
size, apart = int(sys.argv[1]) << 20, int(sys.argv[2]) << 10
heap = mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
for at in range(0, size, 1 << 20):
    heap[at : at + (1 << 20)] = os.urandom(1 << 20)

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = "-".join(str(heap[at]) for at in range(0, size, apart)).encode()
        self.send_response(200); self.send_header("Content-Length", str(len(body))); self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_):
        pass

server = http.server.ThreadingHTTPServer(("0.0.0.0", 8000), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
print("heap at", ctypes.addressof(ctypes.c_char.from_buffer(heap)), "is warm", flush=True)
snapshot_sdk.quiesce()
threading.Event().wait()
"""
COMMAND = ("--", PYTHON, "-c", WORKER, str(MIB), str(APART << 10))
READS_ALL = (*COMMAND[:-1], "4")
PROBE = Probe("HTTP", "127.0.0.1", 8000)
NOTHING_BUT_HOT = (
    "fill.c",
    "    static struct queue queue;\n",
    (
        "    static struct queue queue;\n    u64 from = now_us();\n"
        "    while (now_us() < from + 3000000 || now_us() < last_fault + 2000000) usleep(10000);\n"
    ),
)
"""A page server that fills what is hot and what is waited for, and all else once nobody has waited for some time."""
SHORT_RECORD = ("hot.c", "RECORD_SECONDS = 10", "RECORD_SECONDS = 0")


def changed_criu(path, criu, change):
    """Return a copy of criu's folder whose page server is compiled with another text in place of one."""
    name, before, after = change
    sources = shutil.copytree(PROJECT / "native/page_server", path / "sources")
    text = (sources / name).read_text()
    assert 1 == text.count(before)
    (sources / name).write_text(text.replace(before, after))
    made = shutil.copytree(criu, path / "criu")
    compile_static(sorted(sources.glob("*.c")), made / "bin/page-server", "-O2")
    return made


def take(node, path, change):
    """Have the node restore with a changed page server."""
    criu = replace(node.environment.criu, tree=changed_criu(path, node.criu_folder, change))
    node.engine = NodeEngine(replace(node.environment, criu=criu))


def warm(node: Node, command: tuple[str, ...] = COMMAND) -> tuple[BareContainer, int]:
    source = node.start_as(BareContainer, "--capture", *command)
    heap = int(source.says("is warm").partition("heap at ")[2].split()[0])
    wait_for((source.control / control_files.READY_FOR_SNAPSHOT).exists, "ready file")
    return source, heap


async def captured(node: Node, checkpoint_id: str, probe: Probe | None = PROBE) -> tuple[str, str, int]:
    """Return what the worker answered, the digest, and where its heap is."""
    source, heap = warm(node)
    before = source.get()
    outcome = await node.capture(source, checkpoint_id, probe=probe)
    assert outcome.ok, outcome
    return before, outcome.manifest_digest, heap


def hot_file(node: Node, checkpoint_id: str):
    return node.store / checkpoint_id / "versions/1" / HOT_SET


def recorded_addresses(node: Node, checkpoint_id: str, digest: str) -> set[int]:
    """Return the pages of a worker of one process that its hot set names."""
    file = hot_file(node, checkpoint_id)
    (pagemap,) = file.parent.glob("pagemap-[0-9]*.img")
    offset, addresses = 0, {}
    for each in list(map(protobuf.parse, protobuf.messages(pagemap.read_bytes())))[1:]:
        for number in range(protobuf.number(each, 5)):
            addresses[offset] = protobuf.number(each, 1) + number * 4096
            offset += 4096
    ranges = struct.iter_unpack("<IIQ", unpack(file.read_bytes(), digest))
    return {addresses[first + number * 4096] for _, pages, first in ranges for number in range(pages)}


async def faults_of_a_restore(node: Node, checkpoint_id: str, digest: str, expected: str, caplog) -> tuple[int, object]:
    """Restore, have it answer; return how often it waited for a stored page, and what became of the hot set."""
    caplog.clear()
    target = node.start_as(BareContainer, *COMMAND)
    outcome = await node.restore(target, checkpoint_id, digest)
    assert (True, MemoryRestore.WHILE_RUNNING) == (outcome.ok, outcome.memory), outcome
    assert expected == wait_for(target.get, "the first answer")

    def said():
        return [record.pages for record in caplog.records if record.message == "memory restored"]

    (words,) = wait_for(said, "the end of the fill")
    faults, zeros = (int(re.search(rf"(\d+) {what}", words)[1]) for what in ("faults", "zeros"))
    return faults - zeros, outcome.hot


async def test_what_is_touched_is_recorded(node):
    _, digest, heap = await captured(node, "hot-recorded")
    found = recorded_addresses(node, "hot-recorded", digest)
    assert {heap + at for at in range(0, MIB << 20, APART << 20)} <= found
    assert len(found) * 4096 < (MIB << 20) / 4, "and not everything"


async def test_a_restore_with_it_waits_for_fewer_pages(node, tmp_path, caplog):
    caplog.set_level("INFO")
    before, digest, _ = await captured(node, "hot-used")
    take(node, tmp_path, NOTHING_BUT_HOT)
    used, hot = await faults_of_a_restore(node, "hot-used", digest, before, caplog)
    assert HotSet.USED == hot
    hot_file(node, "hot-used").unlink()
    without, hot = await faults_of_a_restore(node, "hot-used", digest, before, caplog)
    assert None is hot
    assert without > TOUCHED
    assert used < without - TOUCHED * 0.9


@pytest.mark.parametrize("kind", ["damaged", "of-other-images"])
async def test_one_that_is_not_of_this_artifact_is_ignored(node, kind, tmp_path, caplog):
    caplog.set_level("INFO")
    before, digest, _ = await captured(node, f"hot-{kind}")
    take(node, tmp_path, NOTHING_BUT_HOT)
    file = hot_file(node, f"hot-{kind}")
    content = file.read_bytes()
    pid, pages, first = struct.unpack_from("<IIQ", unpack(content, digest))
    beyond = struct.pack("<IIQ", pid, pages, first + (1 << 40))
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]) if kind == "damaged" else pack(beyond, digest))
    faults, hot = await faults_of_a_restore(node, f"hot-{kind}", digest, before, caplog)
    assert HotSet.IGNORED == hot
    assert faults > TOUCHED


async def test_of_a_worker_that_is_asked_nothing_only_the_restore_itself_is_recorded(node):
    """It is not woken in the proof."""
    _, digest, heap = await captured(node, "hot-silent", probe=None)
    found = recorded_addresses(node, "hot-silent", digest)
    assert not {heap + at for at in range(0, MIB << 20, APART << 20)} & found


async def test_pages_that_are_read_in_a_row_come_in_larger_parts(node, tmp_path, caplog):
    caplog.set_level("INFO")
    source, _ = warm(node, READS_ALL)
    before = source.get()
    outcome = await node.capture(source, "hot-in-a-row")
    assert outcome.ok, outcome
    hot_file(node, "hot-in-a-row").unlink()
    take(node, tmp_path, NOTHING_BUT_HOT)
    faults, _ = await faults_of_a_restore(node, "hot-in-a-row", outcome.manifest_digest, before, caplog)
    assert faults < MIB * 16 / 4, "of 64 KiB for each it would be 16 for each MiB"


async def test_a_proof_that_takes_long_fills_what_is_missing(node, tmp_path, caplog):
    caplog.set_level("INFO")
    take(node, tmp_path, SHORT_RECORD)
    before, digest, _ = await captured(node, "hot-short")
    _, hot = await faults_of_a_restore(node, "hot-short", digest, before, caplog)
    assert hot in (HotSet.USED, None), "as much as was touched by then"


async def test_the_page_server_ends_in_the_proof(node):
    """Standby holds the worker's memory in the pod of the capture too: nothing runs on with holes."""

    def end(restored):
        assert restored.pages.is_guarded(30)
        os.kill(restored.pages.process.pid, signal.SIGKILL)
        restored.pages.process.wait()

    AfterCriu(node, end)
    source, _ = warm(node)
    outcome = await node.capture(source, "hot-killed", probe=PROBE)
    assert (False, AgentReason.PROOF_FAILED) == (outcome.ok, outcome.reason)
    assert "page server" in outcome.message
    assert 1 == source.code()
    assert not (node.store / "hot-killed/versions/1").exists()
