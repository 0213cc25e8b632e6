"""A process takes record locks again that it had."""

import fcntl
import os
import subprocess
import sys

import pytest

from linux.ptrace.record_locks import RecordLock, missing, take

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: ptrace"),
    pytest.mark.skipif(os.uname().machine != "x86_64", reason="calls of x86-64"),
]
OPENS = """
import fcntl, os, sys
for flags in (os.O_RDWR, os.O_RDONLY, os.O_WRONLY):
    print(os.open(sys.argv[1], flags), flush=True)
for command in sys.stdin:
    fcntl.lockf(int(command), fcntl.LOCK_EX, 1, 0)
    print("locked", flush=True)
"""
EXCLUSIVE, SHARED = fcntl.LOCK_EX | fcntl.LOCK_NB, fcntl.LOCK_SH | fcntl.LOCK_NB


class Opener:
    """A process that has a file open to read and write, to read, and to write."""

    def __init__(self, path):
        command = [sys.executable, "-c", OPENS, str(path)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.both, self.reads, self.writes = (int(self.process.stdout.readline()) for _ in range(3))
        self.pid = self.process.pid

    def lock(self) -> None:
        self.process.stdin.write(f"{self.both}\n")
        self.process.stdin.flush()
        assert "locked\n" == self.process.stdout.readline()


@pytest.fixture
def path(tmp_path):
    (tmp_path / "file").touch()
    return tmp_path / "file"


@pytest.fixture
def opener(path):
    opener = Opener(path)
    yield opener
    opener.process.kill()
    opener.process.communicate()


def is_free(path, start, length, how) -> bool:
    with path.open("r+b") as file:
        try:
            fcntl.lockf(file, how, length, start)
        except BlockingIOError:
            return False
    return True


@pytest.mark.parametrize(
    ("exclusive", "end"),
    [
        pytest.param(True, 14, id="range"),
        pytest.param(True, None, id="to-the-end"),
        pytest.param(False, 14, id="shared"),
        pytest.param(True, 1 << 40, id="far-away"),
    ],
)
def test_what_is_missing_is_taken(opener, path, exclusive, end):
    wanted = [RecordLock(opener.both, exclusive, 5, end)]
    assert wanted == missing(opener.pid, wanted)
    take(opener.pid, wanted)
    assert [] == missing(opener.pid, wanted)
    assert is_free(path, 0, 5, EXCLUSIVE)
    assert not is_free(path, 5, 1, EXCLUSIVE)
    assert exclusive != is_free(path, 5, 1, SHARED)
    beyond = 1 << 41 if end is None else end + 1
    assert (end is not None) == is_free(path, beyond, 1, EXCLUSIVE)


def test_what_it_has_is_not_missing(opener):
    opener.lock()
    here, there = RecordLock(opener.both, True, 0, 0), RecordLock(opener.both, True, 1, 1)
    assert [there] == missing(opener.pid, [here, there])


def test_a_descriptor_that_could_not_take_it_is_left_out(opener):
    """A lock is noted at each descriptor of its file."""
    wanted = {
        number: [RecordLock(number, exclusive, 0, 0) for exclusive in (True, False)]
        for number in (opener.both, opener.reads, opener.writes)
    }
    found = missing(opener.pid, [lock for locks in wanted.values() for lock in locks])
    assert [*wanted[opener.both], wanted[opener.reads][1], wanted[opener.writes][0]] == found


def test_one_that_another_process_has_is_an_error(opener, path):
    with path.open("r+b") as file:
        fcntl.lockf(file, SHARED, 1, 0)
        with pytest.raises(BlockingIOError, match=f"descriptor {opener.both}"):
            take(opener.pid, [RecordLock(opener.both, True, 0, 0)])


def test_a_descriptor_that_is_not_open_is_an_error(opener):
    with pytest.raises(OSError, match="No such file"):
        missing(opener.pid, [RecordLock(99, True, 0, 0)])
    with pytest.raises(OSError, match="Bad file descriptor"):
        take(opener.pid, [RecordLock(99, True, 0, 0)])
