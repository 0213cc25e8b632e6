"""Bytes in another process's memory are found, and memory that it never touched takes no time."""

import subprocess
import sys

import pytest

from linux.memory_search import Around, Found, find

MIB = 1 << 20
WANTED = bytes(range(1, 17))
HOLDS = """
import ctypes, mmap, sys
libc = ctypes.CDLL(None)
libc.mmap.restype = ctypes.c_void_p
wanted = bytes(range(17, 33))
at = libc.mmap(None, ctypes.c_size_t({size}), 3, 0x4022, -1, ctypes.c_long(0))  # private, anonymous, no reserve
for offset in map(int, sys.argv[1:]):
    for place, byte in enumerate(wanted):
        ctypes.memset(at + offset + place, byte - 16, 1)  # so that nothing else has them in one piece
print(at, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def holder():
    """Start a process with the bytes at some offsets of a mapping; gives its pid and where that is."""
    started = []

    def start(size: int, *offsets: int) -> tuple[int, int]:
        command = [sys.executable, "-c", HOLDS.replace("{size}", str(size)), *map(str, offsets)]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        started.append(process)
        return process.pid, int(process.stdout.readline())

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(
    ("size", "offsets"),
    [
        pytest.param(MIB, [0, 17, MIB - 16], id="at-both-ends"),
        pytest.param(48 * MIB, [16 * MIB - 8, 32 * MIB - 1], id="across-parts"),
        pytest.param(48 * MIB, [16 * MIB, 32 * MIB - 16], id="beside-a-border"),
        pytest.param(1 << 40, [1 << 39, (1 << 40) - 4096], id="in-a-terabyte"),
    ],
)
def test_each_place_is_found_once(holder, size, offsets):
    pid, start = holder(size, *offsets)
    found = [each for each in find(pid, [WANTED]) if start <= each.address < start + size]
    assert [Found(start + offset, WANTED) for offset in offsets] == found


def test_a_process_that_has_ended_is_an_error(holder):
    process = subprocess.Popen(["/bin/true"])
    process.wait()
    with pytest.raises(OSError, match="No such file"):
        list(find(process.pid, [WANTED]))


@pytest.mark.parametrize(
    "offset",
    [
        pytest.param(16 * MIB, id="behind-a-border"),
        pytest.param(16 * MIB - 16, id="before-a-border"),
        pytest.param(16 * MIB - 8, id="across-a-border"),
        pytest.param(3, id="just-enough-before"),
        pytest.param(48 * MIB - 20, id="just-enough-behind"),
    ],
)
def test_what_is_around_comes_with_it(holder, offset):
    size, around = 48 * MIB, Around(before=3, behind=4)
    pid, start = holder(size, offset)
    found = [each for each in find(pid, [WANTED], around) if start <= each.address < start + size]
    assert [Found(start + offset - 3, b"\0" * 3 + WANTED + b"\0" * 4)] == found
