"""What a seccomp filter decides, whatever the order in which it asks.

In front of a profile that refuses by default, as RuntimeDefault is one, runc puts instructions that answer system calls
newer than the profile: one section for each architecture, in the order of a Go map. So two containers of the same
profile have different programs, and the same answer to every call.
"""

import hashlib
import struct
from functools import lru_cache
from typing import Final

INSTRUCTION: Final = struct.Struct("=HBBI")
"""``struct sock_filter``: what to do, how far to jump if a condition holds and if not, and an operand."""
_CLASS, _JUMP, _RETURN = 0x07, 0x05, 0x06
_ALWAYS, _IF_EQUAL = 0x05, 0x15
"""Codes of a jump, and of one that compares with the operand."""


def decides_alike(one: bytes, other: bytes) -> bool:
    """Say whether two filters are known to have the same answer to every call.

    Only instructions in another order are seen through, so of programs that differ in length it is not known.
    """
    return one == other or (
        len(one) == len(other) and (found := _meaning(one)) is not None and found == _meaning(other)
    )


@lru_cache(maxsize=64)
def _meaning(code: bytes) -> bytes | None:
    """Return what is the same for programs that decide alike; None for what is no program.

    Jumps only lead forwards, so each instruction is what it does and what those are that may follow it. Comparisons of
    one value with constants are a table: no constant equals two of them, and so their order does not matter.
    """
    try:
        instructions = list(INSTRUCTION.iter_unpack(code))
        known: dict[int, tuple[bytes, _Table | None]] = {}
        for place in reversed(range(len(instructions))):
            known[place] = _instruction(place + 1, instructions[place], known)
        return known[0][0]
    except (KeyError, struct.error):
        return None


_Table = tuple[dict[int, bytes], bytes]
"""By constant what follows if the value is that; and what follows otherwise."""


def _instruction(
    after: int, fields: tuple[int, ...], known: dict[int, tuple[bytes, _Table | None]]
) -> tuple[bytes, _Table | None]:
    code, if_true, if_false, operand = fields
    if code & _CLASS == _RETURN:
        return _sum(code, operand), None
    if code & _CLASS != _JUMP:
        return _sum(code, operand, known[after][0]), None
    if code == _ALWAYS:
        return known[after + operand]
    then, otherwise = known[after + if_true], known[after + if_false]
    if code != _IF_EQUAL:
        return _sum(code, operand, then[0], otherwise[0]), None
    cases, rest = otherwise[1] or ({}, otherwise[0])
    # A constant that is compared twice has been found by the first comparison.
    cases = {value: found for value, found in (cases | {operand: then[0]}).items() if found != rest}
    return (_sum("table", sorted(cases.items()), rest), (cases, rest)) if cases else otherwise


def _sum(*parts: object) -> bytes:
    return hashlib.sha256(repr(parts).encode()).digest()
