"""Two seccomp filters decide alike if only the order differs in which they ask."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linux.seccomp.program import decides_alike

LOAD, JUMP, EQUAL, GREATER, SET, RETURN = 0x20, 0x05, 0x15, 0x25, 0x45, 0x06
CALL, ARCHITECTURE = 0, 4
X86, I386 = 0xC000003E, 0x40000003
ALLOW, NOT_THERE = 0x7FFF0000, 0x00050026


def program(*instructions):
    return b"".join(struct.pack("=HBBI", *each) for each in instructions)


def stub(first, second, *, newest=(460, 450), answer=NOT_THERE):
    """What runc puts before a profile, with its sections in one order or the other."""
    of = dict(zip((X86, I386), newest, strict=True))
    return program(
        (LOAD, 0, 0, ARCHITECTURE),
        (EQUAL, 2, 0, first),
        (EQUAL, 4, 0, second),
        (JUMP, 0, 0, 7),
        (LOAD, 0, 0, CALL),
        (GREATER, 4, 0, of[first]),
        (JUMP, 0, 0, 4),
        (LOAD, 0, 0, CALL),
        (GREATER, 1, 0, of[second]),
        (JUMP, 0, 0, 1),
        (RETURN, 0, 0, answer),
        (LOAD, 0, 0, CALL),
        (EQUAL, 0, 1, 59),
        (RETURN, 0, 0, 0),
        (RETURN, 0, 0, ALLOW),
    )


@pytest.mark.parametrize(
    ("expected", "other"),
    [
        pytest.param(True, stub(X86, I386), id="the-same"),
        pytest.param(True, stub(I386, X86), id="sections-in-another-order"),
        pytest.param(False, stub(X86, I386, newest=(460, 451)), id="another-call-is-the-newest"),
        pytest.param(False, stub(I386, X86, newest=(461, 450)), id="in-another-order-too"),
        pytest.param(False, stub(I386, X86, newest=(450, 460)), id="of-the-other-architecture"),
        pytest.param(False, stub(I386, X86, answer=ALLOW), id="another-answer"),
        pytest.param(False, stub(X86, I386)[:-8], id="shorter"),
        pytest.param(False, stub(X86, I386)[:-8] + program((LOAD, 0, 0, CALL)), id="without-an-end"),
        pytest.param(False, stub(X86, I386)[:-8] + program((JUMP, 0, 0, 9)), id="out-of-itself"),
    ],
)
def test_alike(expected, other):
    assert expected == decides_alike(stub(X86, I386), other)
    assert expected == decides_alike(other, stub(X86, I386))


def test_no_program_is_like_itself_alone():
    assert decides_alike(b"own", b"own")
    assert not decides_alike(b"one", b"two")


def run(code, call, architecture):
    """Do what the kernel does."""
    instructions, place, value = list(struct.iter_unpack("=HBBI", code)), 0, 0
    while True:
        what, if_true, if_false, operand = instructions[place]
        place += 1
        if what == RETURN:
            return operand
        if what == LOAD:
            value = call if operand == CALL else architecture
        elif what == JUMP:
            place += operand
        else:
            holds = {EQUAL: value == operand, GREATER: value > operand, SET: bool(value & operand)}[what]
            place += if_true if holds else if_false


SMALL = st.integers(0, 3)


@st.composite
def programs(draw):
    """A few instructions over small numbers, so that many decide alike; jumps lead to an answer at the latest."""
    length = draw(st.integers(1, 6))
    found = []
    for place in range(length):
        ahead = st.integers(0, length - place)
        kind = draw(st.sampled_from([LOAD, JUMP, EQUAL, EQUAL, GREATER, SET]))
        operand = draw({LOAD: st.sampled_from([CALL, ARCHITECTURE]), JUMP: ahead}.get(kind, SMALL))
        jumps = (draw(ahead), draw(ahead)) if kind in (EQUAL, GREATER, SET) else (0, 0)
        found.append((kind, *jumps, operand))
    return program(*found, (RETURN, 0, 0, draw(SMALL)), (RETURN, 0, 0, draw(SMALL)))


@given(programs(), programs())
def test_what_is_called_alike_answers_alike(one, other):
    if decides_alike(one, other):
        for call in range(5):
            for architecture in range(5):
                assert run(one, call, architecture) == run(other, call, architecture)


@given(programs(), st.integers(0, 5))
def test_two_comparisons_may_change_places(code, value):
    """Before any program, whose answer depends on neither."""
    first, second = (EQUAL, 2, 0, value), (EQUAL, 1, 0, value + 1)
    swapped = (EQUAL, 2, 0, value + 1), (EQUAL, 1, 0, value)
    tail = program((JUMP, 0, 0, 1), (RETURN, 0, 0, ALLOW)) + code
    # Jumps of the first lead over the second's and the jump; those of the second over the jump.
    assert decides_alike(program(first, second) + tail, program(*swapped) + tail)
