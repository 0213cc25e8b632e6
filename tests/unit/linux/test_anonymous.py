"""What the kernel says of this process's own descriptors that have no name."""

import os
import select
import subprocess
import threading

import pytest

from linux.anonymous import Anonymous
from linux.descriptors import descriptors

WAKING = "pid:\t1\nflags:\t02\nclockid: 9\nticks: 0\n"


def epoll():
    with select.epoll() as made:
        return os.dup(made.fileno())


def of(number):
    (found,) = [each.anonymous for each in descriptors(os.getpid()) if each.number == number]
    os.close(number)
    return found and found._replace(identity=0)


@pytest.mark.parametrize(
    ("expected", "make"),
    [
        pytest.param(Anonymous("eventpoll"), epoll, id="epoll"),
        pytest.param(Anonymous("eventfd", held=17), lambda: os.eventfd(17), id="count"),
        pytest.param(
            Anonymous("eventfd", is_semaphore=True, held=1), lambda: os.eventfd(1, os.EFD_SEMAPHORE), id="semaphore"
        ),
        pytest.param(Anonymous("pidfd", process=os.getpid()), lambda: os.pidfd_open(os.getpid()), id="pidfd"),
        pytest.param(
            Anonymous("pidfd", process=os.getpid(), is_of_thread=True),
            lambda: os.pidfd_open(threading.get_native_id(), os.O_EXCL),
            id="pidfd-of-a-thread",
        ),
        pytest.param(None, lambda: os.open("/dev/null", os.O_RDONLY), id="file"),
    ],
)
def test_what_it_is(expected, make):
    assert expected == of(make())


def test_a_pidfd_of_a_process_that_has_ended():
    child = subprocess.Popen(["sleep", "60"])
    number = os.pidfd_open(child.pid)
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    while_it_is_a_zombie = of(os.dup(number))
    child.wait()
    assert [Anonymous("pidfd")] * 2 == [while_it_is_a_zombie, of(number)]


def test_a_timer_that_wakes_the_machine(tmp_path):
    """A process without CAP_WAKE_ALARM has none."""
    (tmp_path / "7/fdinfo").mkdir(parents=True)
    (tmp_path / "7/fdinfo/4").write_text(WAKING)
    (tmp_path / "7/fd").mkdir()
    (tmp_path / "7/fd/4").symlink_to("anon_inode:[timerfd]")
    (found,) = descriptors(7, tmp_path)
    assert Anonymous("timerfd", wakes_machine=True) == found.anonymous
