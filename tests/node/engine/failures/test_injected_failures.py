"""Whatever fails in a restore ends in a cold start of the same container, soon, with a reason, and leaves nothing.

On bare containers, with the real standby, criu and engine: a failure is put where it belongs, to the millisecond, and
all that a restore could leave is looked at. What kubelet and ``snapshotctl why`` make of it is in test_fallbacks.py.
"""

import asyncio
import contextlib
import os
import signal
import statistics
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from agent.executor import engine as engine_module
from agent.executor.engine import NodeEngine
from agent.executor.restore.phases import RESTORE
from contract.api import control_files, keys
from contract.api.reports import ReportPhase
from contract.api.states import AgentReason
from contract.remedies.agent import AGENT
from tests.node.engine.memory.test_page_server import page_servers
from tests.support.fixtures.bare_container import BareContainer, wait_for
from tests.support.fixtures.dying_agent import die_after
from tests.support.fixtures.engine import COLD, Node, captured

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: namespaces and criu")

NAME = "injected"
MEGABYTES = 96
"""Of the worker: enough for a page server; one that ends is in test_page_server.py."""
PLAIN_STARTS = 3
LATER = 5.0
"""Seconds beyond a plain start: the product's promise."""
FOR_ANOTHER_AGENT = control_files.CLAIM_WINDOW + control_files.LOST_CLAIM_WINDOW
"""Seconds that standby gives another agent when one died in its first seconds; they come on top of it."""


@dataclass(frozen=True)
class Source:
    """A captured worker, and what its plain start is like."""

    digest: str
    answer: str
    seconds: float
    upper: tuple[str, ...]
    processes: int


@pytest.fixture(scope="module")
def source(folder) -> Source:
    node = Node(*folder)
    try:
        answer, digest = asyncio.run(captured(node, NAME, megabytes=MEGABYTES))
        seconds = statistics.median(plain_start(node) for _ in range(PLAIN_STARTS))
        plain = node.containers[-1]
        # Of --serve, standby stays beside the worker.
        return Source(digest, answer, seconds, tuple(plain.upper()), len(processes(plain)) - 1)
    finally:
        for container in node.containers:
            container.close()


def plain_start(node: Node) -> float:
    """Return the seconds to the first answer of a worker that standby starts at once."""
    begun = time.monotonic()
    container = node.start("--serve", megabytes=MEGABYTES)
    wait_for(lambda: answer_of(container), "a plain start")
    return time.monotonic() - begun


def answer_of(container: BareContainer) -> str:
    """GET; the claim file may be gone."""
    return container.ask(container.first_process())


def processes(container: BareContainer) -> list[str]:
    found = (container.cgroups[0] / "cgroup.procs").read_text().split()
    return [pid for pid in found if pid != str(container.process.pid)]  # unshare waits outside of its namespaces


def left_on_the_node(node: Node, target: BareContainer) -> list[str]:
    """Name what is there and belongs to a restore: processes of ours, scratch files, a journal, half-written files."""
    found = [f"page server {pid}" for pid in page_servers(node)]
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            is_child = f"\nPPid:\t{os.getpid()}\n" in (process / "status").read_text()
            if f"--library-path {node.criu_folder}" in words or (is_child and "nsenter.py" in words):
                found.append(f"process {words}")
    found += map(str, node.environment.work.iterdir())
    control_volume = target.volumes / keys.CONTROL_VOLUME
    found += [str(path) for path in control_volume.rglob(".*")]
    found += [str(path) for path in control_volume.rglob(control_files.DIRTY)]
    return found


def mount_points(pid: int | str) -> list[str]:
    return sorted(line.split()[4] for line in Path(f"/proc/{pid}/mountinfo").read_text().splitlines())


Injected = Iterator[None]


@contextmanager
def changed(file: Path, content: bytes) -> Injected:
    """Give a file other content, as a new file: what storage itself would show."""
    kept = file.with_name(f"{file.name}.kept")
    file.rename(kept)
    file.write_bytes(content)
    try:
        yield
    finally:
        kept.replace(file)


@contextmanager
def moved(path: Path, instead=lambda _: None) -> Injected:
    kept = path.rename(path.with_name(f"{path.name}.kept"))
    instead(path)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        kept.rename(path)


def largest(node: Node) -> Path:
    files = (path for path in (node.store / NAME).rglob("*") if path.is_file())
    return max(files, key=lambda path: path.stat().st_size)


def file_missing(node, _):
    return moved(largest(node))


def file_cut_short(node, _):
    return changed(largest(node), largest(node).read_bytes()[:-1])


def flipped_bit(node, _):
    whole = bytearray(largest(node).read_bytes())
    whole[len(whole) // 2] ^= 1
    return changed(largest(node), bytes(whole))


def pipe_in_its_place(node, _):
    """Nobody writes into it: who opens it to read waits for ever."""
    return moved(largest(node), os.mkfifo)


def manifest_of_another(node, _):
    manifest = node.store / NAME / "versions/1/manifest.yaml"
    return changed(manifest, manifest.read_bytes() + b"\n")


def store_gone(node, _):
    return moved(node.store)


def link_in_the_store(node, _):
    version = node.store / NAME / "versions/1"
    return moved(version, lambda path: path.symlink_to("1.kept"))


@contextmanager
def work_full(node, _) -> Injected:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "nr_inodes=1", "full", node.environment.work], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", node.environment.work], check=True)


def criu_missing(node, _):
    return moved(node.criu_folder / "bin/criu")


@contextmanager
def criu_signalled(target: BareContainer, number: int) -> Injected:
    """Send criu a signal as soon as it is in the container."""
    over = threading.Event()

    def look() -> None:
        while not over.is_set():
            for pid in processes(target):
                with contextlib.suppress(OSError):
                    if Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"criu\0"):
                        os.kill(int(pid), number)
                        return

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()


def criu_killed(_, target):
    return criu_signalled(target, signal.SIGKILL)


@contextmanager
def criu_hangs(node, target) -> Injected:
    node.engine._environment = replace(node.environment, longest=1.0)
    with criu_signalled(target, signal.SIGSTOP):
        yield


@contextmanager
def beside(target: BareContainer, script: str, *, joins: bool = True) -> Injected:
    """Run a program in the container, as an exec probe would be, or without its control groups, as nsenter does."""
    join = "".join(f"echo 0 > {group}/cgroup.procs; " for group in target.cgroups if joins)
    enter = ["nsenter", "-t", str(target.first_process()), "-m", "-n", "-p", "-i", "-u", "python3", "-c", script]
    program = subprocess.Popen(["sh", "-c", f'{join} exec "$@"', "sh", *enter], stdout=subprocess.PIPE)
    try:
        assert program.stdout is not None
        assert b"up\n" == program.stdout.readline()
        yield
    finally:
        program.kill()
        program.wait()
        program.stdout.close()


def criu_refuses(_, target):
    """The port of the worker is taken, until the restore has failed."""
    script = "import socket, time; s = socket.create_server(('', 8000)); print('up', flush=True); time.sleep(60)"
    return beside(target, script)


TAKING = """
import os, time
open('/proc/sys/kernel/ns_last_pid', 'w').write('1000')
os.fork() or time.sleep(60)
print('up', flush=True)
time.sleep(60)
"""


def pid_taken(_, target):
    return beside(target, TAKING)


def pid_taken_from_the_node(_, target):
    """By a process that no control group of the pod has: it is not among those that are looked at."""
    return beside(target, TAKING, joins=False)


@contextmanager
def memory_limited(_, target) -> Injected:
    """Less than the captured worker has."""
    target.limit_memory(MEGABYTES << 19)
    yield
    target.limit_memory(1 << 30)


FAILURES = {
    "artifact-file-missing": (file_missing, AgentReason.ARTIFACT_MISSING),
    "artifact-file-cut-short": (file_cut_short, AgentReason.ARTIFACT_CORRUPT),
    "flipped-bit": (flipped_bit, AgentReason.ARTIFACT_CORRUPT),
    "pipe-in-place-of-a-file": (pipe_in_its_place, AgentReason.ARTIFACT_UNREADABLE),
    "manifest-of-another": (manifest_of_another, AgentReason.MANIFEST_DIGEST),
    "store-gone": (store_gone, AgentReason.STORAGE_MISSING),
    "link-in-the-store": (link_in_the_store, AgentReason.ARTIFACT_UNREADABLE),
    "work-directory-full": (work_full, AgentReason.WORK_UNWRITABLE),
    "criu-missing": (criu_missing, AgentReason.CRIU_MISSING),
    "criu-killed": (criu_killed, AgentReason.RESTORE_FAILED),
    "criu-hangs": (criu_hangs, AgentReason.RESTORE_FAILED),
    "criu-refuses": (criu_refuses, AgentReason.RESTORE_FAILED),
    "pid-taken": (pid_taken, AgentReason.PIDS_TAKEN),
    "pid-taken-from-the-node": (pid_taken_from_the_node, AgentReason.PIDS_TAKEN),
    "memory-limit": (memory_limited, AgentReason.MEMORY_LIMIT),
}


@pytest.mark.parametrize(("inject", "reason"), FAILURES.values(), ids=FAILURES)
async def test_it_ends_in_a_cold_start(node, source, figure, inject, reason):
    own_mounts = mount_points("self")
    begun = time.monotonic()
    target = node.start(megabytes=MEGABYTES)
    target.init()
    with inject(node, target):
        outcome = await node.restore(target, NAME, source.digest)
    assert (False, reason) == (outcome.ok, outcome.reason), outcome
    assert reason in AGENT, "snapshotctl why explains it"
    expect_cold(node, target, source)
    later = time.monotonic() - begun - source.seconds
    figure(f"{later:+.1f} s, {outcome.message}")
    assert later < LATER
    assert own_mounts == mount_points("self")


def expect_cold(node: Node, target: BareContainer, source: Source, left: Sequence[str] = ()) -> str:
    """Expect the container's own worker, one, and of what a restore made at most *left*; return its answer."""
    target.says(COLD)
    answer = wait_for(lambda: answer_of(target), "the cold worker")
    assert source.answer != answer
    assert source.processes == len(wait_for(lambda: processes(target), "its processes"))
    assert tuple(target.upper()) == source.upper
    assert not target.claimed()
    assert list(left) == left_on_the_node(node, target)
    return answer


async def test_an_agent_that_took_too_long_leaves_the_cold_worker_alone(node, source, monkeypatch):
    """Storage hung, or the agent was stopped: what it finds when it goes on is not its own any more."""
    cold = threading.Event()

    def paused(phase):
        def run(state):
            phase.run(state)
            assert cold.wait(60)

        return replace(phase, run=run) if phase.name == ReportPhase.INSPECT else phase

    monkeypatch.setattr(engine_module, "RESTORE", tuple(map(paused, RESTORE)))
    node.engine._environment = replace(node.environment, longest=1.0)
    target = node.start(megabytes=MEGABYTES)
    restoring = asyncio.create_task(node.restore(target, NAME, source.digest))
    await asyncio.to_thread(target.says, f"{COLD}restore timed out")
    answer = await asyncio.to_thread(wait_for, lambda: answer_of(target), "the cold worker")
    cold.set()
    outcome = await restoring
    assert (False, AgentReason.ALREADY_STARTED) == (outcome.ok, outcome.reason), outcome
    assert answer == expect_cold(node, target, source)
    assert control_files.COLD_START == (target.control / control_files.RESTORE_COMPLETE).read_text()


async def test_a_verdict_that_comes_as_standby_gives_up(node, source, monkeypatch):
    """Standby still has its claim file open while it ends what the agent has made, and reads no verdict any more."""
    target = node.start(megabytes=MEGABYTES)

    def paused(phase):
        def run(state):
            wait_for((target.control / control_files.GAVE_UP).exists, "standby's note")
            return phase.run(state)

        return replace(phase, run=run) if phase.name == ReportPhase.VERDICT else phase

    monkeypatch.setattr(engine_module, "RESTORE", tuple(map(paused, RESTORE)))
    node.engine._environment = replace(node.environment, longest=1.0)
    outcome = await node.restore(target, NAME, source.digest)
    assert (False, AgentReason.ALREADY_STARTED) == (outcome.ok, outcome.reason), outcome
    assert control_files.EXIT_RESTART_ME == target.process.wait(30)
    assert "files of a restore are left" in target.text()


async def test_the_agent_dies_and_no_other_comes(node, source, figure):
    begun = time.monotonic()
    target = node.start(megabytes=MEGABYTES)
    target.init()
    die_after(ReportPhase.INSPECT, node, target, NAME, source.digest)
    images = [str(folder) for folder in node.environment.work.iterdir()]
    assert 1 == len(images)
    expect_cold(node, target, source, left=images)
    NodeEngine(node.environment)  # the next agent: it removes the images that the dead one had copied
    assert [] == left_on_the_node(node, target)
    later = time.monotonic() - begun - source.seconds - FOR_ANOTHER_AGENT
    figure(f"{later:+.1f} s beyond what another was given")
    assert later < LATER
    assert "the agent died" in target.text()
