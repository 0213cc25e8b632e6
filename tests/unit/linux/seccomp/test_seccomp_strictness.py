"""One seccomp filter is as strict as another if it is proved that it lets nothing more through."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linux.seccomp.strictness import is_as_strict

LOAD, SET, MASK, JUMP, RETURN, RETURN_VALUE = 0x20, 0x00, 0x54, 0x05, 0x06, 0x16
EQUAL, GREATER, AT_LEAST, ANY_BIT = 0x15, 0x25, 0x35, 0x45
CALL, ARCHITECTURE, ARGUMENT = 0, 4, 16
X86, X32 = 0xC000003E, 1 << 30
ALLOW, LOG, ASK, TRAP, ERROR, ANOTHER_ERROR, KILL = (
    *(0x7FFF0000, 0x7FFC0000, 0x7FC00000),
    *(0x00030000, 0x00050001, 0x00050026, 0x80000000),
)
CHMOD, CLONE, NEWEST = 90, 56, 450
NAMESPACES = 0x7E020000


def program(*instructions):
    return b"".join(struct.pack("=HBBI", *(*each[:1], *each[2:], each[1])) for each in instructions)


def allowing(*calls, rest=ERROR, answer=ALLOW):
    """Return a profile of one architecture: these calls, and of all others the *rest*."""
    head = [(LOAD, ARCHITECTURE, 0, 0), (EQUAL, X86, 1, 0), (RETURN, KILL, 0, 0), (LOAD, CALL, 0, 0)]
    asked = [(EQUAL, call, len(calls) - place, 0) for place, call in enumerate(calls)]
    return program(*head, *asked, (RETURN, rest, 0, 0), (RETURN, answer, 0, 0))


def without_namespaces(mask=NAMESPACES, *, call=CLONE):
    return program(
        (LOAD, CALL, 0, 0),
        (EQUAL, call, 1, 0),
        (RETURN, ERROR, 0, 0),
        (LOAD, ARGUMENT, 0, 0),
        (MASK, mask, 0, 0),
        (EQUAL, 0, 0, 1),
        (RETURN, ALLOW, 0, 0),
        (RETURN, ERROR, 0, 0),
    )


def of(answer):
    return program((RETURN, answer, 0, 0))


OLDER, NEWER = allowing(CHMOD, CLONE), allowing(CHMOD, CLONE, NEWEST)
NO_X32 = program((LOAD, CALL, 0, 0), (ANY_BIT, X32, 0, 1), (RETURN, ERROR, 0, 0), (RETURN, ALLOW, 0, 0))


@pytest.mark.parametrize(
    ("expected", "one", "other"),
    [
        pytest.param(True, OLDER, OLDER, id="the-same"),
        pytest.param(True, OLDER, NEWER, id="fewer-calls"),
        pytest.param(False, NEWER, OLDER, id="more-calls"),
        pytest.param(True, allowing(CLONE, CHMOD), OLDER, id="another-order"),
        pytest.param(False, allowing(CHMOD), allowing(CLONE), id="another-call"),
        pytest.param(True, allowing(CHMOD, rest=KILL), allowing(CHMOD, rest=ANOTHER_ERROR), id="stopped-otherwise"),
        pytest.param(True, allowing(CHMOD, answer=TRAP), OLDER, id="nothing"),
        pytest.param(True, allowing(CHMOD, answer=LOG), allowing(CHMOD), id="logged"),
        pytest.param(False, allowing(CHMOD), allowing(CHMOD, answer=LOG), id="not-logged-any-more"),
        pytest.param(True, allowing(CHMOD, rest=ASK), allowing(CHMOD, rest=ASK), id="asks-the-same"),
        pytest.param(False, allowing(CHMOD, rest=ASK), of(ALLOW), id="asks-another-process"),
        pytest.param(False, of(ALLOW), of(ASK), id="asks-nobody"),
        pytest.param(True, of(ERROR), of(ASK), id="stops-what-another-process-is-asked"),
        pytest.param(False, without_namespaces(), allowing(CLONE), id="of-every-architecture"),
        pytest.param(True, without_namespaces(), of(ALLOW), id="by-an-argument"),
        pytest.param(False, of(ALLOW), without_namespaces(), id="whatever-the-argument"),
        pytest.param(True, without_namespaces(), without_namespaces(), id="the-same-argument"),
        pytest.param(False, without_namespaces(1), without_namespaces(), id="another-mask"),
        pytest.param(False, without_namespaces(call=CHMOD), without_namespaces(), id="the-argument-of-another-call"),
        pytest.param(True, NO_X32, of(ALLOW), id="a-bit-of-the-call"),
        pytest.param(False, of(ALLOW), NO_X32, id="any-bit-of-the-call"),
    ],
)
def test_as_strict(expected, one, other):
    assert expected == is_as_strict(one, other)


@pytest.mark.parametrize(
    "code",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"no program", id="no-program"),
        pytest.param(program((LOAD, CALL, 0, 0)), id="without-an-end"),
        pytest.param(program((JUMP, 9, 0, 0), (RETURN, KILL, 0, 0)), id="out-of-itself"),
        pytest.param(program((LOAD, CALL, 0, 0), (RETURN_VALUE, 0, 0, 0)), id="another-instruction"),
        pytest.param(program((LOAD, CALL, 0, 0), (MASK, 7, 0, 0), (RETURN, KILL, 0, 0)), id="mask-of-the-call"),
        pytest.param(
            program((LOAD, CALL, 0, 0), (ANY_BIT, 1, 0, 0), (RETURN, KILL, 0, 0)), id="a-bit-that-changes-often"
        ),
    ],
)
def test_what_is_not_followed_is_not_proved(code):
    assert not is_as_strict(code, of(ALLOW))
    assert not is_as_strict(of(KILL), code)


def test_a_program_that_would_take_minutes_is_not_proved():
    many = [(EQUAL, 7 * number, 0, 0) for number in range(4000)]
    long = program((LOAD, CALL, 0, 0), *many, (LOAD, ARCHITECTURE, 0, 0), *many[:90], (RETURN, KILL, 0, 0))
    assert not is_as_strict(long, of(ALLOW))


def run(code, data):
    """Do what the kernel does; return the action."""
    instructions, place, value = list(struct.iter_unpack("=HBBI", code)), 0, 0
    while True:
        what, if_true, if_false, operand = instructions[place]
        place += 1
        if what == RETURN:
            return operand
        if what == LOAD:
            value = data[operand]
        elif what == SET:
            value = operand
        elif what == MASK:
            value &= operand
        elif what == JUMP:
            place += operand
        else:
            holds = {
                EQUAL: value == operand,
                GREATER: value > operand,
                AT_LEAST: value >= operand,
                ANY_BIT: bool(value & operand),
            }[what]
            place += if_true if holds else if_false


NUMBERS = [0, 1, 2, 3, 4, X32, X32 + 1, 2 * X32]


@st.composite
def programs(draw):
    """A few instructions over few numbers; jumps lead to an answer at the latest."""
    length = draw(st.integers(1, 7))
    found = []
    for place in range(length):
        ahead = st.integers(0, length - place)
        kind = draw(st.sampled_from([LOAD, LOAD, SET, MASK, JUMP, EQUAL, EQUAL, GREATER, AT_LEAST, ANY_BIT]))
        operands = {LOAD: st.sampled_from([CALL, ARCHITECTURE, ARGUMENT]), JUMP: ahead, ANY_BIT: st.just(X32)}
        jumps = (draw(ahead), draw(ahead)) if kind in (EQUAL, GREATER, AT_LEAST, ANY_BIT) else (0, 0)
        found.append((kind, draw(operands.get(kind, st.sampled_from(NUMBERS))), *jumps))
    answers = st.sampled_from([ALLOW, LOG, ERROR, KILL])
    return program(*found, (RETURN, draw(answers), 0, 0), (RETURN, draw(answers), 0, 0))


RANK = {KILL: 0, ERROR: 0, LOG: 1, ALLOW: 2}


@given(programs(), programs())
def test_what_is_proved_holds_for_every_call(one, other):
    if is_as_strict(one, other):
        for call in NUMBERS:
            for architecture in NUMBERS:
                for argument in NUMBERS:
                    data = {CALL: call, ARCHITECTURE: architecture, ARGUMENT: argument}
                    assert RANK[run(one, data)] <= RANK[run(other, data)]


@given(programs())
def test_whatever_is_followed_is_as_strict_as_itself_and_as_nothing(code):
    assert is_as_strict(code, code) == is_as_strict(code, of(ALLOW))
