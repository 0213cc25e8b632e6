"""Fields of a protobuf message, as CRIU's images hold them: read, changed and written without the message's schema.

What is not understood stays as it is, byte by byte.
"""

from collections.abc import Iterable, Iterator, Mapping

from agent.errors import CriuError
from contract.api.states import AgentReason

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MORE = 0x80
"""Of each byte of a number but the last."""
_FIXED_LENGTHS = {_FIXED64: 8, _FIXED32: 4}

Field = tuple[int, int | bytes]
"""Number, and value: a varint as ``int``, a string or message as ``bytes``."""


def fields(message: bytes) -> dict[int, int | bytes]:
    """Return the fields of a message by number; of a repeated one, the last.

    Raises:
        CriuError: it is no message.
    """
    return {number: value for number, value, _ in _parts(message)}


def replaced(message: bytes, changes: Mapping[int, int | bytes]) -> bytes:
    """Return the message with other values for fields that it has.

    Raises:
        CriuError: it is no message.
    """
    return b"".join(
        _encoded(number, changes[number]) if number in changes else raw for number, _, raw in _parts(message)
    )


def encoded(values: Iterable[Field]) -> bytes:
    """Return a message of these fields."""
    return b"".join(_encoded(number, value) for number, value in values)


def _parts(message: bytes) -> Iterator[tuple[int, int | bytes, bytes]]:
    """Yield number, value and raw bytes of each field."""
    at = 0
    while at < len(message):
        start = at
        key, at = _varint(message, at)
        value: int | bytes
        if key & 7 == _VARINT:
            value, at = _varint(message, at)
        else:
            length, at = _varint(message, at) if key & 7 == _BYTES else (_FIXED_LENGTHS.get(key & 7, -1), at)
            if length < 0 or at + length > len(message):
                raise unreadable("a field that is cut off or of an unknown kind")
            value, at = message[at : at + length], at + length
        yield key >> 3, value, message[start:at]


def _varint(message: bytes, at: int) -> tuple[int, int]:
    """Read a number in groups of seven bits, the lowest first; return it and the place after it."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(message):
            break
        byte = message[at]
        at += 1
        value |= (byte & ~_MORE) << shift
        if byte < _MORE:
            return value, at
    raise unreadable("a number that does not end")


def _encoded(number: int, value: int | bytes) -> bytes:
    if isinstance(value, int):
        return _number(number << 3 | _VARINT) + _number(value)
    return _number(number << 3 | _BYTES) + _number(len(value)) + value


def _number(value: int) -> bytes:
    out = bytearray()
    while value >= _MORE:
        out.append(value & 0xFF | _MORE)
        value >>= 7
    return bytes((*out, value))


def unreadable(what: str) -> CriuError:
    """Return the error for an image that is not as expected."""
    return CriuError(AgentReason.DUMP_FAILED, f"an image that criu wrote cannot be read: {what}")
