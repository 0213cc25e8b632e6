"""Processes that enter containers for the agent: one waits for the next request, and is missed by none."""

import os
import signal
import threading
from pathlib import Path

import pytest

from agent.criu import nsenter
from agent.criu.helpers import Helpers
from agent.criu.runner import run_in_namespaces
from tests.support.waiting import until

PAGE = 4096
SECONDS = 30.0


@pytest.fixture
def helpers():
    made = Helpers()
    yield made
    made.close()


@pytest.fixture
def copy():
    """Copy so many pages of one file into so many others; each is two descriptors of the request."""
    opened = []

    def one() -> int:
        opened.append(os.memfd_create("pages"))
        return opened[-1]

    def run(files: int, helpers: Helpers | None = None, times: int = 1) -> None:
        source, content = one(), os.urandom(PAGE)
        os.write(source, content)
        targets = [one() for _ in range(files)]
        for target in targets:
            os.ftruncate(target, PAGE)
        jobs = [(source, target, ((0, 0, PAGE),) * times) for target in targets]
        result = run_in_namespaces(pid=os.getpid(), shared=(jobs, 2), helpers=helpers, timeout=SECONDS)
        assert (0, "") == (result.code, result.error)
        assert [content] * files == [os.pread(target, PAGE, 0) for target in targets]

    yield run
    for fd in opened:
        os.close(fd)


def children() -> set[int]:
    """Return the helpers of this process."""
    lists = [path.read_text().split() for path in Path("/proc/self/task").glob("*/children")]
    return {int(pid) for pids in lists for pid in pids if nsenter.__file__ in Path("/proc", pid, "cmdline").read_text()}


def waiting(helpers: Helpers) -> int:
    until(lambda: len(children()) == helpers._waiting.qsize() == 1, "a helper that waits")
    return children().pop()


@pytest.mark.parametrize("files", [1, nsenter.AT_ONCE, 3 * nsenter.AT_ONCE], ids=["few", "two-messages", "many"])
def test_descriptors_have_the_numbers_that_a_request_names(copy, files):
    copy(files)


def test_the_one_that_waits_is_used_and_another_waits_then(helpers, copy):
    helpers.keep(1)
    first = waiting(helpers)
    copy(2, helpers)
    until(lambda: children() not in ({first}, set()), "another helper")
    copy(2, helpers)


def test_one_that_was_killed_is_not_missed(helpers, copy):
    helpers.keep(1)
    pid = waiting(helpers)
    os.kill(pid, signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    copy(2, helpers)


def test_one_that_stands_still_is_not_waited_for(helpers, copy, monkeypatch):
    monkeypatch.setattr("agent.criu.helpers._GIVE_SECONDS", 0.2)
    monkeypatch.setattr("agent.criu.helpers._END_SECONDS", 0.2)
    helpers.keep(1)
    os.kill(waiting(helpers), signal.SIGSTOP)
    copy(40, helpers, times=5000)  # a request of which the kernel holds a part alone


def test_it_lives_longer_than_the_thread_that_asked_for_it(helpers, copy):
    keeping = threading.Thread(target=helpers.keep, args=(1,))
    keeping.start()
    keeping.join()
    first = waiting(helpers)
    copy(1, helpers)
    assert first not in children()


def test_several_requests_at_once_start_what_is_missing(helpers, copy):
    helpers.keep(1)
    waiting(helpers)
    threads = [threading.Thread(target=copy, args=(1, helpers)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    waiting(helpers)


def test_several_wait_and_are_replaced(helpers, copy):
    helpers.keep(3)
    until(lambda: len(children()) == 3, "three that wait")
    first = children()
    copy(1, helpers)
    until(lambda: len(children()) == 3, "three again")
    assert 2 == len(first & children())


def test_none_is_left_once_they_are_closed(helpers):
    helpers.keep(1)
    waiting(helpers)
    helpers.close()
    assert set() == children()
