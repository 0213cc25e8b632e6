"""Shared memory of a worker: left out of what criu copies, filled while the tree is stopped, equal byte for byte."""

import contextlib
import ctypes
import mmap
import os
from dataclasses import replace

import pytest

from agent.criu.shared_memory import Place, Segment, open_segment
from contract.api.reports import ReportPhase
from linux.proc import PROC
from tests.support.fixtures.bare_container import PYTHON, BareContainer
from tests.support.fixtures.engine import COLD, AfterCriu, Node

MIB = int(os.environ.get("SNAPSHOT_SHARED_MIB", "160"))
"""Of each kind of shared memory."""

WORKER = """
import fcntl, hashlib, mmap, os, sys, time
size = int(sys.argv[1]) << 20
odd = size + 1234
anonymous = mmap.mmap(-1, size)
fd = os.memfd_create("weights", os.MFD_ALLOW_SEALING)
os.ftruncate(fd, odd)
weights = mmap.mmap(fd, odd)
alone = os.memfd_create("not mapped")
os.write(alone, os.urandom(1 << 20))
small = os.memfd_create("sealed", os.MFD_ALLOW_SEALING)
os.write(small, os.urandom(1 << 20))
fcntl.fcntl(small, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)
private = mmap.mmap(fd, 8 << 20, mmap.MAP_PRIVATE)
for at in range(0, size // 2, 1 << 20):
    anonymous[at:at + (1 << 20)] = os.urandom(1 << 20)
for at in range(size // 4, odd - 5000, 1 << 20):
    part = os.urandom(min(1 << 20, odd - at))
    weights[at:at + len(part)] = part
weights[-10:] = b"0123456789"
private[:6] = b"mine!!"

def told(who):
    read = [os.pread(file, odd, 0) for file in (fd, alone, small)]
    digests = [hashlib.sha256(fact).hexdigest()[:12] for fact in (anonymous, weights, private, *read)]
    print(who, *digests, os.fstat(fd).st_size, fcntl.fcntl(small, fcntl.F_GET_SEALS), flush=True)

child = os.fork()
who = "parent" if child else "child"
if child:
    told("before")
    print("warm", flush=True)
while not os.path.exists("/snapshot-control/restore-complete"):
    time.sleep(0.01)
if not child:
    told(who)
    anonymous[-4:] = b"said"
    os._exit(0)
os.wait()
assert anonymous[-4:] == b"said"
anonymous[-4:] = bytes(4)
told(who)
"""


def started(node: Node, *words: str) -> BareContainer:
    return node.start_as(BareContainer, *words, "--", PYTHON, "-c", WORKER, str(MIB))


async def captured(node: Node, checkpoint_id: str) -> tuple[list[str], str]:
    source = started(node, "--capture")
    before = line(source.says("warm"), "before")
    outcome = await node.capture(source, checkpoint_id)
    assert outcome.ok, outcome
    return before, outcome.manifest_digest


def line(text: str, who: str) -> list[str]:
    return next(words[1:] for words in map(str.split, text.splitlines()) if words[:1] == [who])


@pytest.mark.parametrize("filled", [True, False], ids=["filled", "copied"])
async def test_every_byte_is_what_it_was(node, request, filled):
    checkpoint_id = f"shared-{request.node.callspec.id}"
    before, digest = await captured(node, checkpoint_id)
    node.engine._environment = replace(node.environment, lazy_pages=filled)
    target = started(node)
    target.init()
    empty = target.memory()
    outcome = await node.restore(target, checkpoint_id, digest)
    assert outcome.ok, outcome
    assert target.memory() - empty > MIB << 20, "it does not count for the pod"
    text = target.says("parent")
    assert (before, before) == (line(text, "child"), line(text, "parent"))
    assert filled == (ReportPhase.PAGES in outcome.seconds)


async def test_an_image_that_is_cut_short_is_a_cold_start(node):
    _, digest = await captured(node, "shared-short")

    def cut(_):
        # Of a process's own memory nothing is missing: the page server would find that first, now and then.
        images = (node.store / "shared-short").rglob("pages-*.img")
        os.truncate(max(images, key=lambda image: image.stat().st_size), 4096)

    AfterCriu(node, cut)
    target = started(node)
    outcome = await node.restore(target, "shared-short", digest)
    assert not outcome.ok
    assert "shared memory cannot be filled: its image is cut short" in outcome.message
    target.says(COLD)


async def test_the_memory_limit_is_reached_while_it_is_filled(node):
    _, digest = await captured(node, "shared-limit")
    target = started(node)
    AfterCriu(node, lambda _: target.limit_memory(target.memory() + (MIB << 19)))
    outcome = await node.restore(target, "shared-limit", digest)
    assert not outcome.ok
    assert "shared memory cannot be filled" in outcome.message
    target.says(COLD)


@pytest.fixture
def mapped(tmp_path):
    """Map a memfd and a file of this process, both shared; yield an address in each."""
    with contextlib.ExitStack() as opened:
        memfd = opened.enter_context(os.fdopen(os.memfd_create("x"), "w+b"))
        file = opened.enter_context((tmp_path / "memfd:x (deleted)").open("w+b"))
        found = []
        for each in (memfd, file):
            each.truncate(8192)
            view = opened.enter_context(mmap.mmap(each.fileno(), 8192))
            found.append(ctypes.addressof(ctypes.c_char.from_buffer(view)))
        yield found


def test_only_the_kernels_own_shared_memory_is_opened(mapped):
    """The images say where it is mapped: a file there would be written to with the agent's rights."""
    memfd, file = (Segment(1, Place(7, address), 1, ()) for address in mapped)
    os.close(open_segment(memfd, {7: os.getpid()}, PROC))
    with pytest.raises(ValueError, match="maps no shared memory"):
        open_segment(file, {7: os.getpid()}, PROC)
    with pytest.raises(ValueError, match="maps no shared memory"):
        open_segment(Segment(1, Place(7, 4096), 1, ()), {7: os.getpid()}, PROC)
