"""Of a stopped process only the wanted threads run, and all of it is stopped again afterwards; on real threads."""

import os
import signal
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from images import native
from linux.ptrace.thread_hold import HoldError, ThreadHold
from tests.support.fixtures.bare_container import wait_for

SOURCE = Path(__file__).parents[2] / "support" / "native" / "counting_threads.c"
THREADS = 40


class Process:
    """A process whose threads count."""

    def __init__(self, program: Path, file: Path) -> None:
        file.write_bytes(bytes(16 * THREADS))
        self.file = file
        self.process = subprocess.Popen([program, file, str(THREADS)])
        self.pid = self.process.pid
        wait_for(lambda: all(self.counts().values()) and len(self.counts()) == THREADS, "all threads count")

    def counts(self) -> dict[int, int]:
        """Thread id -> count."""
        return dict(struct.iter_unpack("qq", self.file.read_bytes()))

    def stop(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)
        wait_for(self.is_stopped, "stopped")

    def is_stopped(self) -> bool:
        states = ((task / "stat").read_text() for task in Path(f"/proc/{self.pid}/task").iterdir())
        return {"T"} == {stat.rpartition(") ")[2][0] for stat in states}


@pytest.fixture(scope="module")
def program(tmp_path_factory) -> Path:
    target = tmp_path_factory.mktemp("program") / "counting_threads"
    # As the page servers that other tests compile: Zig builds its C library once for each level of optimisation.
    native.compile_static([SOURCE], target, "-O2")
    return target


@pytest.fixture
def start(program: Path, tmp_path: Path) -> Iterator[Callable[[], Process]]:
    started: list[Process] = []

    def process() -> Process:
        started.append(Process(program, tmp_path / f"cells-{len(started)}"))
        return started[-1]

    yield process
    for each in started:
        each.process.kill()
        each.process.wait()


def test_only_the_wanted_threads_run(start):
    one, other = start(), start()
    wanted = {sorted(one.counts())[3], min(other.counts())}
    for process in (one, other):
        process.stop()
    before = one.counts() | other.counts()

    def grown() -> set[int]:
        return {tid for tid, count in (one.counts() | other.counts()).items() if count != before[tid]}

    def all_wanted_run() -> bool:
        hold.pump()
        return wanted <= grown()

    with ThreadHold([one.pid, other.pid], wanted) as hold:
        wait_for(all_wanted_run, "the wanted threads run")
    # Let out of its trap, a thread needs a moment to reach the stop that is pending; none runs on the way.
    wait_for(one.is_stopped, "stopped again")
    wait_for(other.is_stopped, "stopped again")
    assert wanted == grown()
    before = one.counts() | other.counts()
    os.kill(one.pid, signal.SIGCONT)
    wait_for(lambda: set(one.counts()) <= grown(), "all of it go on")
    assert set() == set(other.counts()) & grown()


def test_a_signal_reaches_the_thread_that_runs(start):
    """The worker's own handling of signals is left to it: this one ends it."""
    process = start()
    process.stop()
    with ThreadHold([process.pid], {process.pid}) as hold:
        os.kill(process.pid, signal.SIGTERM)

        def ended() -> bool:
            hold.pump()
            return "Z" == Path(f"/proc/{process.pid}/stat").read_text().rpartition(") ")[2][0]

        wait_for(ended, "the process ends")


def test_a_thread_of_another_process_is_refused(start):
    one, other = start(), start()
    one.stop()
    with pytest.raises(HoldError, match="are not of processes"), ThreadHold([one.pid], {other.pid}):
        pass
    wait_for(one.is_stopped, "stopped as before")


def test_held_processes_end_with_their_holder(start):
    """A holder that is killed must not leave a worker that runs on by itself."""
    process = start()
    process.stop()
    code = (
        "import sys, time; from linux.ptrace.thread_hold import ThreadHold\n"
        "with ThreadHold([int(sys.argv[1])], [int(sys.argv[1])]): print('held', flush=True); time.sleep(60)"
    )
    environment = {"PYTHONPATH": str(Path(__file__).parents[3])}
    argv = [sys.executable, "-c", code, str(process.pid)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env=environment) as holder:
        assert "held\n" == holder.stdout.readline()
        holder.kill()
    assert -signal.SIGKILL == process.process.wait(10)


def test_processes_that_run_are_held_and_run_on(start):
    process = start()
    wanted = {max(process.counts())}
    with ThreadHold([process.pid], wanted, stopped=False) as hold:
        before = process.counts()
        wait_for(lambda: hold.pump() or wanted <= grown(process, before), "the wanted thread runs")
        assert wanted == grown(process, before)
    before = process.counts()
    wait_for(lambda: set(process.counts()) <= grown(process, before), "all of it go on")


def test_a_signal_that_is_on_its_way_is_not_lost(start):
    """It ends the process, as it would have done, once nothing holds it any more."""
    process = start()
    with ThreadHold([process.pid], set(), stopped=False):
        os.kill(process.pid, signal.SIGTERM)
        assert process.process.poll() is None
    assert -signal.SIGTERM == process.process.wait(10)


@pytest.mark.parametrize(
    ("bind", "ends"),
    [
        pytest.param("hold.bind()", True, id="bound"),
        pytest.param("hold.bind(); hold.unbind()", False, id="unbound"),
        pytest.param("pass", False, id="not-bound"),
    ],
)
def test_running_processes_end_with_their_holder_once_they_are_bound(start, bind, ends):
    process = start()
    code = (
        "import sys, time; from linux.ptrace.thread_hold import ThreadHold\n"
        "with ThreadHold([int(sys.argv[1])], [], stopped=False) as hold:\n"
        f"    {bind}; print('held', flush=True); time.sleep(60)"
    )
    environment = {"PYTHONPATH": str(Path(__file__).parents[3])}
    argv = [sys.executable, "-c", code, str(process.pid)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env=environment) as holder:
        assert "held\n" == holder.stdout.readline()
        holder.kill()
    if ends:
        assert -signal.SIGKILL == process.process.wait(10)
    else:
        before = process.counts()
        wait_for(lambda: set(process.counts()) <= grown(process, before), "all of it go on")


def grown(process, before) -> set[int]:
    """Return the threads that counted on since then."""
    return {tid for tid, count in process.counts().items() if count != before[tid]}
