"""A worker that runs while its memory is still being filled: every byte is right, or the worker is ended."""

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
from contextlib import chdir
from dataclasses import replace
from pathlib import Path

import pytest

from agent import protobuf
from agent.executor.lock import ControlDir
from agent.executor.memory import guard
from agent.executor.restore import inspection
from contract.api import control_files
from contract.api.engine import Because, Way
from contract.api.reports import MemoryRestore, ReportPhase
from contract.api.states import AgentReason
from images.native import compile_static
from tests.support.fixtures.bare_container import PYTHON, BareContainer, wait_for
from tests.support.fixtures.engine import COLD, AfterCriu, Node, captured
from tests.support.fixtures.tools import PROJECT, add_memory_programs

STRESS = "/tools/memory-stress"
MIB = 256
CAPTURE_SECONDS = 3.0
"""Longer than a capture of so much takes that waits for nothing."""
RANGES = 30000
"""Mappings: two for each range, and the kernel lets a process have 65530."""
RANGES_SECONDS = 1.0
"""Measured on two cores: 0.09 s. Comparing each range with each extent took 1.8 s."""
RESTORED = "SNAPSHOT_RESTORED"
STACK = 64 << 10
"""Bytes of it that a program may use which waits."""
KILLED = 128 + signal.SIGKILL
LOST = "SNAPSHOT_RESTART: the page server ended before it had restored all of the worker's memory"


@pytest.fixture(scope="module")
def folder(folder):
    """Add the program that changes its memory in every way, and one that waits with a large heap."""
    path, criu = folder
    add_memory_programs(path)
    return path, criu


@pytest.fixture
def slow_node(folder):
    """Make a node whose page servers take their time."""
    path, criu = folder
    made = Node(path, slow_criu(path / "slow", criu))
    yield made
    for container in made.containers:
        container.close()
    shutil.rmtree(path / "slow")


class Watching:
    """The real criu; *then* is called with the page server of each restore, once standby holds the memory too."""

    def __init__(self, criu, then):
        self.version, self.dump, self._restore, self._then = criu.version, criu.dump, criu.restore, then

    def restore(self, request):
        restored = self._restore(request)
        assert restored.pages.is_guarded(30)
        self._then(restored.pages)
        return restored


class ServerHeld:
    """Stops the page server of a restore before it has filled much."""

    def __init__(self, node: Node):
        criu = Watching(node.environment.criu, self._hold)
        node.engine._environment = replace(node.environment, criu=criu)

    def _hold(self, pages):
        self.pid = pages.process.pid
        os.kill(self.pid, signal.SIGSTOP)


def started(node: Node, *words: str, seconds: int = 2, mib: int = MIB) -> BareContainer:
    return node.start_as(BareContainer, *words, "--", STRESS, str(mib), "4", str(seconds))


async def stress_captured(node: Node, checkpoint_id: str, **options) -> str:
    source = started(node, "--capture", **options)
    source.says("warm")
    outcome = await node.capture(source, checkpoint_id)
    assert outcome.ok, outcome
    return outcome.manifest_digest


def open_anonymous(pid: int) -> list[str]:
    opened = [str(fd.readlink()) for fd in Path(f"/proc/{pid}/fd").iterdir()]
    return [what for what in opened if "userfaultfd" in what]


class TestEveryByte:
    async def test_memory_that_changes_while_it_is_filled(self, node):
        digest = await stress_captured(node, "pages-change")
        target = started(node)
        outcome = await node.restore(target, "pages-change", digest)
        assert outcome.ok, outcome
        words = target.says(" after ")
        assert "equal after" in words, words
        assert 0 == target.code()

    async def test_thousands_of_ranges_that_a_fork_does_not_copy(self, node):
        """Each is filled before the worker runs; finding what belongs to one takes no walk through all others."""
        command = ["--", PYTHON, "-c", MANY_RANGES, str(RANGES)]
        source = node.start_as(BareContainer, "--capture", *command)
        source.says("warm")
        made = await node.capture(source, "pages-ranges")
        assert made.ok, made
        target = node.start_as(BareContainer, *command)
        outcome = await node.restore(target, "pages-ranges", made.manifest_digest)
        assert (True, MemoryRestore.WHILE_RUNNING) == (outcome.ok, outcome.memory)
        assert f"{RANGES} equal, 0 given to a child" in target.says(" equal")
        assert outcome.seconds[ReportPhase.PAGES] < RANGES_SECONDS

    async def test_memory_counts_for_the_pod(self, node):
        _, digest = await captured(node, "pages-count", megabytes=256)
        target = node.start(megabytes=256)
        assert (await node.restore(target, "pages-count", digest)).ok
        wait_for(lambda: target.memory() > 256 << 20, "the memory of the pod")

    async def test_nothing_of_ours_is_left(self, node):
        before, digest = await captured(node, "pages-left", megabytes=64)
        target = node.start(megabytes=64)
        outcome = await node.restore(target, "pages-left", digest)
        assert outcome.ok
        wait_for(lambda: not open_anonymous(target.init()), "standby to let go")
        wait_for(lambda: not page_servers(node), "the end of the page server")
        for file in (node.store / "pages-left").rglob("pages-*.img"):
            file.write_bytes(b"")
        assert before == target.get()

    async def test_the_fill_is_on_the_time_line_though_the_worker_runs(self, node):
        _, digest = await captured(node, "pages-line", megabytes=128)
        held = ServerHeld(node)  # or it is done before the verdict where others use the processors
        outcome = await node.restore(node.start(megabytes=128), "pages-line", digest)
        os.kill(held.pid, signal.SIGCONT)
        line = {step.phase: step for step in outcome.steps}
        assert ReportPhase.FILL not in line
        filled = await asyncio.wait_for(asyncio.wrap_future(outcome.filling), 60)
        criu, verdict, fill = line[ReportPhase.CRIU], line[ReportPhase.VERDICT], filled.step
        assert criu.start < fill.start
        assert verdict.start < fill.start + fill.seconds
        assert filled.bytes >= 128 << 20
        (choice,) = outcome.engine.came
        assert (Way.SERVED, Because.LARGE) == (choice.way, choice.because)

    async def test_a_worker_is_captured_again_once_its_memory_is_all_there(self, node):
        """What is missing would be zeros in the second artifact."""
        before, digest = await captured(node, "pages-again", megabytes=MIB)
        held, target = ServerHeld(node), node.start(megabytes=MIB)
        assert (await node.restore(target, "pages-again", digest)).ok
        wait_for((target.control / control_files.RESTORE_COMPLETE).exists, "standby to wake it")
        node.engine._environment = node.environment
        capture = asyncio.create_task(node.capture_running(target, "pages-second"))
        done, _ = await asyncio.wait({capture}, timeout=CAPTURE_SECONDS)
        assert not done, capture.result()
        os.kill(held.pid, signal.SIGCONT)
        outcome = await capture
        assert outcome.ok, outcome
        second = node.start(megabytes=MIB)
        assert (await node.restore(second, "pages-second", outcome.manifest_digest)).ok
        assert before == second.get()


MANY_RANGES = """
import mmap, os, sys, time
count, page = int(sys.argv[1]), mmap.PAGESIZE
block = os.urandom(64 << 20)
ranges = mmap.mmap(-1, 2 * count * page, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
for i in range(0, 2 * count, 2):
    ranges[i * page:i * page + 8] = i.to_bytes(8, "little")
    ranges.madvise(18, i * page, page)  # MADV_WIPEONFORK
print("warm", flush=True)
while not os.path.exists("/snapshot-control/restore-complete"):
    time.sleep(0.01)
values = lambda: [int.from_bytes(ranges[i * page:i * page + 8], "little") for i in range(0, 2 * count, 2)]
reading, writing = os.pipe()
if os.fork() == 0:
    os.write(writing, str(sum(map(bool, values()))).encode())
    os._exit(0)
equal = sum(value == 2 * i for i, value in enumerate(values()))
print(equal, "equal,", os.read(reading, 99).decode(), "given to a child", flush=True)
"""


def stored_pages(images: Path) -> dict[int, bytes]:
    """Return what the images of a worker of one process hold, by address; pages of zeros need not be stored."""
    (pagemap,) = images.rglob("pagemap-[0-9]*.img")
    head, *entries = map(protobuf.parse, protobuf.messages(pagemap.read_bytes()))
    (file,) = images.rglob(f"pages-{protobuf.number(head, 1)}.img")
    content, found, at = file.read_bytes(), {}, 0
    for each in entries:
        for number in range(protobuf.number(each, 5)):
            found[protobuf.number(each, 1) + number * 4096] = content[at : at + 4096]
            at += 4096
    return {address: page for address, page in found.items() if page.strip(b"\0")}


class TestCapturedAgain:
    async def test_every_page_of_a_restored_worker_is_that_of_the_first_capture(self, node):
        """The worker waits in one call to the kernel, so only its stack may differ."""
        command = ["--", "/tools/heap", str(MIB), "1", "0"]
        source = node.start_as(BareContainer, "--capture", *command)
        source.says("warm")
        made = await node.capture(source, "pages-first-of-two")
        assert made.ok, made
        target = node.start_as(BareContainer, *command)
        assert (await node.restore(target, "pages-first-of-two", made.manifest_digest)).ok
        wait_for((target.control / control_files.RESTORE_COMPLETE).exists, "standby to wake it")
        again = await node.capture_running(target, "pages-second-of-two")
        assert again.ok, again
        first, second = (stored_pages(node.store / f"pages-{which}-of-two") for which in ("first", "second"))
        assert len(first) * 4096 > MIB << 20
        differing = [at for at in first.keys() | second.keys() if first.get(at) != second.get(at)]
        assert all(at > max(first) - STACK for at in differing), [hex(at) for at in differing]


def page_servers(node: Node) -> list[int]:
    program = str(node.criu_folder / "bin/page-server")
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if str((process / "exe").readlink()) == program:
                found.append(int(process.name))
        except OSError:
            continue
    return found


class TestTheServerEnds:
    async def test_while_pages_are_missing(self, node):
        digest = await stress_captured(node, "pages-killed")
        held, target = ServerHeld(node), started(node)
        assert (await node.restore(target, "pages-killed", digest)).ok
        target.says(RESTORED)
        os.kill(held.pid, signal.SIGKILL)
        assert control_files.EXIT_RESTART_ME == target.code()
        assert LOST in target.text()
        assert "DIFFERS" not in target.text()
        assert (target.control / control_files.PAGES_LOST).exists()

    async def test_the_next_restore_in_that_pod_copies(self, node):
        before, digest = await captured(node, "pages-lost", megabytes=96)
        target = node.start(megabytes=96)
        target.init()
        (target.control / control_files.PAGES_LOST).write_text("copy\n")
        outcome = await node.restore(target, "pages-lost", digest)
        assert (True, MemoryRestore.AFTER_LOSS) == (outcome.ok, outcome.memory)
        assert before == target.get()

    async def test_since_the_artifact_was_cut_short(self, node):
        digest = await stress_captured(node, "pages-short")
        held, target = ServerHeld(node), started(node)
        assert (await node.restore(target, "pages-short", digest)).ok
        target.says(RESTORED)
        for file in (node.store / "pages-short").rglob("pages-*.img"):
            os.truncate(file, 4096)
        os.kill(held.pid, signal.SIGCONT)
        assert control_files.EXIT_RESTART_ME == target.code()
        assert LOST in target.text()

    async def test_before_the_worker_runs(self, node):
        digest = await stress_captured(node, "pages-early")

        def end(pages):
            pages.process.kill()
            pages.process.wait()  # else the worker may run before the server has ended

        node.engine._environment = replace(node.environment, criu=Watching(node.environment.criu, end))
        target = started(node)
        outcome = await node.restore(target, "pages-early", digest)
        assert not outcome.ok
        assert "page server" in outcome.message
        target.says(COLD)

    async def test_the_agent_ends_first(self, node):
        digest = await stress_captured(node, "pages-alone", mib=1024)
        target = started(node, mib=1024)
        target.init()
        assert -signal.SIGKILL == dying_agent(node, target, digest)
        assert "equal after" in target.says(" after ")


class TestTheLimitIsReached:
    """The kernel ends a process of the container while its memory is filled: the worker ends, and nothing waits."""

    async def test_before_the_worker_runs(self, slow_node):
        digest = await stress_captured(slow_node, "pages-limit-first")
        target = started(slow_node)
        target.init()
        (target.control / control_files.PAGES).unlink()
        AfterCriu(slow_node, lambda _: target.limit_memory(target.memory() + (MIB << 19)))
        outcome = await slow_node.restore(target, "pages-limit-first", digest)
        assert (False, AgentReason.RESTORE_FAILED) == (outcome.ok, outcome.reason)
        assert "memory limit" in outcome.message
        # The call that fills a page keeps the memory of the worker that was ended: the kernel may end standby as well.
        wait_for(lambda: COLD in target.text() or target.process.poll() is not None, "a cold start, or the end")

    async def test_while_the_worker_runs(self, slow_node):
        digest = await stress_captured(slow_node, "pages-limit", seconds=600)
        target = started(slow_node, seconds=600)
        assert (await slow_node.restore(target, "pages-limit", digest)).ok
        target.says(RESTORED)
        target.limit_memory(target.memory() + (MIB << 18))
        assert target.code() in (KILLED, 1), "1 is unshare's if the kernel ends standby as well"
        assert RESTORED in target.text()
        differences = [line for line in target.text().splitlines() if "DIFFERS" in line]
        assert all("in the child" in line and f"has {signal.SIGKILL:d}," in line for line in differences), differences


async def test_more_than_a_thousand_forks_while_it_is_filled(slow_node):
    """Standby holds a descriptor for each, and no more than it may have open."""
    command = ["--", PYTHON, "-c", FORKS_ON, "96"]
    source = slow_node.start_as(BareContainer, "--capture", *command)
    source.says("warm")
    made = await slow_node.capture(source, "pages-forks")
    assert made.ok, made
    target = slow_node.start_as(BareContainer, *command)
    assert (await slow_node.restore(target, "pages-forks", made.manifest_digest)).ok
    assert control_files.EXIT_RESTART_ME == target.code()
    assert LOST in target.text()
    assert "forked on" not in target.text()


FORKS_ON = """
import os, sys, time
block = os.urandom(int(sys.argv[1]) << 20)
print("warm", flush=True)
while not os.path.exists("/snapshot-control/restore-complete"):
    time.sleep(0.01)
for number in range(2000):
    if os.fork() == 0:
        os._exit(0)
    os.wait()
print("forked on", flush=True)
"""


def dying_agent(node: Node, target: BareContainer, digest: str) -> int:
    argv = [sys.executable, "-c", DIES_AFTER, node.folder, node.criu_folder, target.pod_uid, digest]
    environment = os.environ | {"PYTHONPATH": f"{PROJECT}:{PROJECT / 'sdk'}"}
    return subprocess.run(argv, cwd=PROJECT, env=environment, check=False).returncode


DIES_AFTER = """
import asyncio, os, signal, sys
from pathlib import Path, PurePosixPath
from agent.executor.api import ContainerRef, RestoreRequest
from tests.support.fixtures.engine import Node

folder, criu, pod_uid, digest = sys.argv[1:]
node = Node(Path(folder), Path(criu))
request = RestoreRequest(ContainerRef("ns", "pod", pod_uid, "main"), "pages-alone", "1", PurePosixPath(node.store),
                         False, digest)
async def main():
    assert (await node.engine.restore(request)).ok
    os.kill(os.getpid(), signal.SIGKILL)
asyncio.run(main())
"""


class TestNoGuard:
    @pytest.mark.parametrize("what", ["nothing", "link", "another"])
    async def test_all_memory_is_there_before_the_worker_runs(self, node, what, tmp_path):
        before, digest = await captured(node, f"pages-no-guard-{what}", megabytes=64)
        target = node.start(megabytes=64)
        target.init()
        (target.control / control_files.PAGES).unlink()
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as another:
            folder = target.control if what == "another" else tmp_path
            with chdir(folder):  # a socket's path is at most 108 bytes
                another.bind(control_files.PAGES)
            another.listen()
            if what == "link":
                (target.control / control_files.PAGES).symlink_to(tmp_path / control_files.PAGES)
            outcome = await node.restore(target, f"pages-no-guard-{what}", digest)
        assert outcome.ok, outcome
        assert [] == page_servers(node)
        assert before == target.get()

    async def test_a_container_that_is_not_started_again(self, node):
        before, digest = await captured(node, "pages-never", megabytes=96)
        target = node.start(megabytes=96, env={"DYN_SNAPSHOT_RESTART_POLICY": "Never"})
        outcome = await node.restore(target, "pages-never", digest)
        assert (True, MemoryRestore.FILLED_FIRST) == (outcome.ok, outcome.memory)
        assert outcome.engine.plan == outcome.engine.came, "it is known before"
        assert ReportPhase.FILL in {step.phase for step in outcome.steps}
        assert before == target.get()

    async def test_a_socket_that_came_after_the_plan_counts(self, node, monkeypatch):
        before, digest = await captured(node, "pages-late", megabytes=96)
        monkeypatch.setattr(inspection, "has_guard", lambda _: False)
        target = node.start(megabytes=96)
        outcome = await node.restore(target, "pages-late", digest)
        assert (True, MemoryRestore.WHILE_RUNNING) == (outcome.ok, outcome.memory)
        assert [Because.UNGUARDED] == [each.because for each in outcome.engine.plan]
        assert before == target.get()

    async def test_standby_is_found_by_its_socket(self, node):
        target = node.start()
        init = target.init()
        wait_for((target.control / control_files.PAGES).exists, "socket")
        with ControlDir(os.open(target.control, os.O_RDONLY)) as control:
            found = guard.connect_guard(control, init)
            assert found is not None
            found.close()
            assert None is guard.connect_guard(control, init + 1)


class TestCopied:
    async def test_when_it_is_switched_off(self, node):
        before, digest = await captured(node, "pages-off", megabytes=96)
        node.engine._environment = replace(node.environment, lazy_pages=False)
        target = node.start(megabytes=64)
        outcome = await node.restore(target, "pages-off", digest)
        assert (True, MemoryRestore.SWITCHED_OFF) == (outcome.ok, outcome.memory)
        assert before == target.get()

    async def test_when_the_server_does_not_start(self, node):
        digest = await stress_captured(node, "pages-newer", mib=96)
        server = node.criu_folder / "bin/page-server"
        kept = server.rename(server.with_name("kept"))
        try:
            target = started(node, mib=96)
            outcome = await node.restore(target, "pages-newer", digest)
        finally:
            kept.rename(server)
        assert (True, MemoryRestore.NO_SERVER) == (outcome.ok, outcome.memory)
        (planned,), (came,) = outcome.engine.plan, outcome.engine.came
        assert (Because.LARGE, Because.NO_SERVER) == (planned.because, came.because)
        assert "equal after" in target.says(" after ")

    async def test_when_processes_share_memory_since_a_fork(self, node):
        source = node.start_as(BareContainer, "--capture", "--", PYTHON, "-c", FORKS, "128")
        source.says("warm")
        made = await node.capture(source, "pages-shared")
        assert made.ok, made
        target = node.start_as(BareContainer, "--", PYTHON, "-c", FORKS, "128")
        outcome = await node.restore(target, "pages-shared", made.manifest_digest)
        assert (True, MemoryRestore.SHARED) == (outcome.ok, outcome.memory)
        assert target.memory() < 2 * 128 << 20


FORKS = """
import os, sys, time
block = os.urandom(int(sys.argv[1]) << 20)
for _ in range(3):
    if os.fork() == 0:
        break
else:
    print("warm", flush=True)
while True:
    time.sleep(1)
"""


def slow_criu(path: Path, criu: Path, *more: tuple[str, str]) -> Path:
    """Return a copy of criu's folder with a page server that takes its time over each piece: much is changed before.

    Each pair of *more* is a text of ``serve.c`` that is there once, and what is compiled instead.
    """
    path.mkdir(exist_ok=True)
    sources = shutil.copytree(PROJECT / "native/page_server", path / "slow-page-server")
    populate = ("    madvise((void *)", "    usleep(piece->length / 50), madvise((void *)")
    for name, (before, after) in [("fill.c", populate), *(("serve.c", pair) for pair in more)]:
        text = (sources / name).read_text()
        assert 1 == text.count(before)
        (sources / name).write_text(text.replace(before, after))
    slow = shutil.copytree(criu, path / "slow-criu")
    compile_static(sorted(sources.glob("*.c")), slow / "bin/page-server", "-O2")
    return slow


READS = "    pthread_rwlock_wrlock(&process->lock);\n    process->reader_waits--;\n    ssize_t n = read("
FOLLOWS = " follow(process, &messages[i]);\n    pthread_rwlock_unlock(&process->lock);"


def test_the_lock_of_the_event_reader_is_needed(folder):
    """The same program without it brings old pages back, and the stress shows it: so the stress can fail."""
    path, criu = folder
    unlocked = (READS, "    process->reader_waits--;\n    ssize_t n = read(")
    late = (FOLLOWS, " usleep(2000), follow(process, &messages[i]);")
    node = Node(path, slow_criu(path, criu, unlocked, late))
    try:
        assert any("equal after" not in asyncio.run(stressed(node, attempt)) for attempt in range(4))
    finally:
        for container in node.containers:
            container.close()


async def stressed(node: Node, attempt: int) -> str:
    digest = await stress_captured(node, f"pages-broken-{attempt}")
    target = started(node)
    assert (await node.restore(target, f"pages-broken-{attempt}", digest)).ok
    target.code()
    return target.text()
