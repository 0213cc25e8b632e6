"""Operations on semaphores that show what a process has to undo, against the kernel's rules for them."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linux.ptrace.semaphores import question

MOST = 0x7FFF
NO_WAIT, UNDO = 0o4000, 0x1000


def answer(operations: bytes, values: list[int], undone: list[int], start: int) -> str:
    """Go through operations as the kernel does (``ipc/sem.c``); the first that fails decides."""
    values, undone = list(values), list(undone)
    for number, operation, flags in struct.iter_unpack("=Hhh", operations):
        place = number - start
        assert operation, "0 waits for a value of 0"
        assert flags & NO_WAIT
        values[place] += operation
        if values[place] < 0:
            return "EAGAIN"
        if values[place] > MOST:
            return "ERANGE"
        if flags & UNDO:
            undone[place] -= operation
            if not -MOST - 1 <= undone[place] <= MOST:
                return "ERANGE"
    return "done"


@pytest.mark.parametrize("value", [0, 1, MOST])
@pytest.mark.parametrize(
    ("undone", "expected"),
    [
        pytest.param(0, "EAGAIN", id="nothing"),
        pytest.param(1, "ERANGE", id="something-to-give"),
        pytest.param(-1, "ERANGE", id="something-to-take"),
        pytest.param(MOST, "ERANGE", id="the-most"),
        pytest.param(-MOST, "ERANGE", id="the-least"),
    ],
)
def test_one_semaphore(value, undone, expected):
    assert expected == answer(question(3, [value]), [value], [undone], 3)


@given(
    st.lists(st.tuples(st.integers(0, MOST), st.sampled_from([0, 0, 0, 1, -1, 7])), min_size=1, max_size=8),
    st.integers(0, 30000),
)
def test_several_semaphores(semaphores, start):
    """Something at any of them is found, and no call of these ever succeeds."""
    values, undone = [value for value, _ in semaphores], [undo for _, undo in semaphores]
    expected = "ERANGE" if any(undone) else "EAGAIN"
    assert expected == answer(question(start, values), values, undone, start)
