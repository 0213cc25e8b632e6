"""Whether a seccomp filter lets through nothing that another one stops.

Both are run for each system call that either of them distinguishes, with the number of the call and its
architecture known, and its arguments not. Numbers between those that are compared with are one case, so this is a
proof; what cannot be followed is not proved.
"""

import hashlib
import struct
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Final, NamedTuple

from linux.seccomp.program import INSTRUCTION

_LOAD, _SET, _MASK, _RETURN, _ALWAYS = 0x20, 0x00, 0x54, 0x06, 0x05
_EQUAL, _GREATER, _AT_LEAST, _ANY_BIT = 0x15, 0x25, 0x35, 0x45
_CALL, _ARCHITECTURE, _CONSTANT = 0, 4, -1
"""Where a number is from: its offset in ``struct seccomp_data``; beyond these two are arguments."""
_BIGGEST: Final = (1 << 32) - 1
_LOWEST_BIT: Final = 1 << 28
"""x32's calls have bit 30."""
_MOST_STEPS: Final = 5_000_000
"""Two seconds. Two profiles of a runtime, which compare with some 350 calls of three architectures, need 1,500,000."""
_ACTION: Final = 0xFFFF0000
_STOPPED, _LOGGED, _ALLOWED = range(3)
_RANKS: Final = {
    0x80000000: _STOPPED,  # SECCOMP_RET_KILL_PROCESS
    0x00000000: _STOPPED,  # KILL_THREAD
    0x00030000: _STOPPED,  # TRAP
    0x00050000: _STOPPED,  # ERRNO
    0x7FFC0000: _LOGGED,
    0x7FFF0000: _ALLOWED,
}
"""By action. Not TRACE and USER_NOTIF: another process answers these as it likes."""

Instruction = tuple[int, int, int, int]


class _UnknownError(Exception):
    """A program does what is not followed here."""


class _Value(NamedTuple):
    """What the accumulator holds."""

    source: int
    number: int | None
    """None if it is an argument's."""
    mask: int = _BIGGEST


class _Answer(NamedTuple):
    """What a program answers to a call."""

    meaning: bytes
    """The same for programs that ask the same about arguments, and answer the same."""
    actions: frozenset[int]
    """All that there may be."""


@lru_cache(maxsize=64)
def is_as_strict(one: bytes, other: bytes) -> bool:
    """Say whether it is proved that *one* lets through no call that *other* stops."""
    try:
        programs = [list(INSTRUCTION.iter_unpack(code)) for code in (one, other)]
        first, second = map(_compared, programs)
        steps = iter(range(_MOST_STEPS))
        return all(
            _lets_through_no_more(*(_Run(program, call, architecture, steps).answer() for program in programs))
            for architecture in _cases(first[_ARCHITECTURE] | second[_ARCHITECTURE])
            for call in _cases(first[_CALL] | second[_CALL])
        )
    except (_UnknownError, IndexError, RecursionError, struct.error):
        return False


def _lets_through_no_more(one: _Answer, other: _Answer) -> bool:
    if one.meaning == other.meaning:
        return True
    if not one.actions <= _RANKS.keys():
        return False
    least = min(_RANKS.get(action, _STOPPED) for action in other.actions)
    return max(_RANKS[action] for action in one.actions) <= least


def _cases(compared: Iterable[int]) -> Sequence[int]:
    """Return one number at least of each range that comparisons with these distinguish."""
    near = {number for each in compared for number in (each - 1, each, each + 1)}
    return sorted(number for number in near | {0, _BIGGEST} if 0 <= number <= _BIGGEST)


def _compared(program: Sequence[Instruction]) -> dict[int, set[int]]:
    """Return the operands that a number of each source may be compared with."""
    found = defaultdict[int, set[int]](set)
    reached = defaultdict[int, set[int]](set, {0: {_CONSTANT}})
    for place, (code, if_true, if_false, operand) in enumerate(program):
        sources = reached[place]
        if code == _MASK and sources & {_CALL, _ARCHITECTURE}:
            raise _UnknownError("bits of what is to be a number")
        for source in sources:
            found[source].update(_boundaries(code, operand) if source in (_CALL, _ARCHITECTURE) else ())
        sources = {operand} if code == _LOAD else {_CONSTANT} if code == _SET else sources
        for jump in _jumps(code, if_true, if_false, operand):
            reached[place + 1 + jump] |= sources
    return found


def _boundaries(code: int, operand: int) -> Iterable[int]:
    """Return numbers between which a comparison holds for all or for none."""
    if code in (_EQUAL, _GREATER, _AT_LEAST):
        return (operand,)
    if code != _ANY_BIT or not operand:
        return ()
    lowest = operand & -operand
    if lowest < _LOWEST_BIT:
        raise _UnknownError("a bit that changes too often")
    return range(0, _BIGGEST, lowest)


def _jumps(code: int, if_true: int, if_false: int, operand: int) -> tuple[int, ...]:
    if code == _RETURN:
        return ()
    if code in (_LOAD, _SET, _MASK):
        return (0,)
    if code == _ALWAYS:
        return (operand,)
    if code in (_EQUAL, _GREATER, _AT_LEAST, _ANY_BIT):
        return (if_true, if_false)
    raise _UnknownError(f"instruction {code:#x}")


class _Run:
    """A program, run for one call whose arguments are not known."""

    def __init__(self, program: Sequence[Instruction], call: int, architecture: int, steps: Iterator[int]) -> None:
        self._program = program
        self._steps = steps
        self._known = {_CALL: call, _ARCHITECTURE: architecture}
        self._answers: dict[tuple[int, _Value], _Answer] = {}

    def answer(self) -> _Answer:
        """Return what it answers."""
        return self._from(0, _Value(_CONSTANT, 0))

    def _from(self, place: int, value: _Value) -> _Answer:
        if (place, value) not in self._answers:
            self._answers[place, value] = self._follow(place, value)
        return self._answers[place, value]

    def _follow(self, place: int, value: _Value) -> _Answer:
        for _ in self._steps:
            code, if_true, if_false, operand = self._program[place]
            place += 1
            if code == _RETURN:
                return _Answer(_sum(operand), frozenset({operand & _ACTION}))
            if code == _LOAD:
                value = _Value(operand, self._known.get(operand))
            elif code == _SET:
                value = _Value(_CONSTANT, operand)
            elif code == _MASK:
                number = value.number & operand if value.number is not None else None
                value = _Value(value.source, number, value.mask & operand)
            elif code == _ALWAYS:
                place += operand
            elif value.number is not None:
                place += if_true if _holds(code, value.number, operand) else if_false
            else:
                return self._either(place + if_true, place + if_false, value, (code, operand))
        raise _UnknownError("too many steps")

    def _either(self, if_true: int, if_false: int, value: _Value, asked: tuple[int, int]) -> _Answer:
        then, otherwise = self._from(if_true, value), self._from(if_false, value)
        if then.meaning == otherwise.meaning:
            return then
        meaning = _sum(value.source, value.mask, *asked, then.meaning, otherwise.meaning)
        return _Answer(meaning, then.actions | otherwise.actions)


def _holds(code: int, number: int, operand: int) -> bool:
    if code == _ANY_BIT:
        return bool(number & operand)
    return number == operand if code == _EQUAL else number > operand if code == _GREATER else number >= operand


def _sum(*parts: object) -> bytes:
    return hashlib.sha256(repr(parts).encode()).digest()
