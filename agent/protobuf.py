"""Protocol buffers on the wire, without a schema: criu's images, in which some fields are changed, and health checks.

A message is its fields in their order; what is not understood is written back byte for byte.
"""

import re
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

VARINT: Final = 0
BYTES: Final = 2
_FIXED: Final = {1: 8, 5: 4}
"""Wire type -> length."""
_LONGEST: Final = 10
"""Bytes of a varint of 64 bits."""


class Field(NamedTuple):
    """One field of a message."""

    number: int
    wire: int
    value: int | bytes
    """A number if it is a varint, else its bytes."""


def parse(message: bytes) -> list[Field]:
    """Return the fields of a message.

    Raises:
        ValueError: it is cut off, or no message.
    """
    return list(_fields(message))


def encode(fields: Iterable[Field]) -> bytes:
    """Return the message that has these fields."""
    return b"".join(_encoded(field) for field in fields)


def number(fields: Sequence[Field], wanted: int, default: int = 0) -> int:
    """Return the last value of a numeric field, as a reader must."""
    for field in reversed(fields):
        if field.number == wanted and isinstance(field.value, int):
            return field.value
    return default


def values(message: bytes) -> dict[int, int]:
    """Return the last value of each numeric field, and -1 for each other: three times as fast as ``parse``.

    Raises:
        ValueError: it is cut off, or no message.
    """
    found: dict[int, int] = {}
    at, end = 0, len(message)
    while at < end:
        key, at = _varint(message, at)
        wire = key & 7
        if wire == VARINT:
            found[key >> 3], at = _varint(message, at)
            continue
        length, at = _length(message, wire, at)
        found[key >> 3] = -1
        at += length
    if at > end:
        raise ValueError("cut off")
    return found


def numbers(fields: Iterable[Field], wanted: int) -> list[int]:
    """Return all values of a repeated numeric field."""
    return [field.value for field in fields if field.number == wanted and isinstance(field.value, int)]


def embedded(fields: Iterable[Field], wanted: int) -> list[bytes]:
    """Return all messages in a field.

    Raises:
        ValueError: it holds a number.
    """
    found = [field.value for field in fields if field.number == wanted]
    if any(isinstance(value, int) for value in found):
        raise ValueError(f"field {wanted} is a number")
    return [value for value in found if isinstance(value, bytes)]


def may_embed(wanted: int) -> Callable[[bytes], object]:
    """Return what says whether a message may have another one in a field: no is certain, yes is to be looked at.

    Of ten thousand open files a few are of a kind that is looked for, and to parse one takes as long as a hundred such
    looks. The key of the field is there in any way in which a varint may be written.
    """
    key = wanted << 3 | BYTES
    *whole, last = _as_varint(key)
    ways = re.escape(bytes([*whole, last])) + b"|" + re.escape(bytes([*whole, last | 0x80])) + rb"\x80*\x00"
    return re.compile(ways).search


def replaced(fields: Iterable[Field], values: Mapping[int, int | bytes]) -> list[Field]:
    """Return the fields with other values; one that is not there yet is added at the end."""
    changed = [_field(field.number, values[field.number]) if field.number in values else field for field in fields]
    there = {field.number for field in changed}
    return changed + [_field(wanted, value) for wanted, value in values.items() if wanted not in there]


def _field(number: int, value: int | bytes) -> Field:
    return Field(number, VARINT if isinstance(value, int) else BYTES, value)


def _fields(message: bytes) -> Iterator[Field]:
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        wire = key & 7
        if wire == VARINT:
            value, at = _varint(message, at)
            yield Field(key >> 3, wire, value)
            continue
        length, at = _length(message, wire, at)
        if at + length > len(message):
            raise ValueError("cut off")
        yield Field(key >> 3, wire, message[at : at + length])
        at += length


def _length(message: bytes, wire: int, at: int) -> tuple[int, int]:
    """Return how long a field is that is no varint, and where its content begins."""
    if wire == BYTES:
        return _varint(message, at)
    if wire in _FIXED:
        return _FIXED[wire], at
    raise ValueError(f"wire type {wire}")


def _varint(message: bytes, at: int) -> tuple[int, int]:
    if at < len(message) and message[at] < 0x80:  # noqa: PLR2004 - most are one byte, and a worker has many sockets
        return message[at], at + 1
    value = 0
    for index in range(_LONGEST):
        if at + index >= len(message):
            raise ValueError("cut off")
        byte = message[at + index]
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:  # noqa: PLR2004 - the bit that says that more follow
            return value, at + index + 1
    raise ValueError("varint too long")


def _encoded(field: Field) -> bytes:
    key = _as_varint(field.number << 3 | field.wire)
    if isinstance(field.value, int):
        return key + _as_varint(field.value)
    return key + (_as_varint(len(field.value)) if field.wire == BYTES else b"") + field.value


def _as_varint(value: int) -> bytes:
    parts = bytearray()
    while value > 0x7F:  # noqa: PLR2004 - seven bits a byte
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    parts.append(value)
    return bytes(parts)


MAGIC: Final = 8
"""Bytes in front of an image's first message."""
_SIZE: Final = struct.Struct("=I")


def message(image: bytes, at: int = MAGIC) -> tuple[bytes, int]:
    """Return the message at a place of an image, and where it ends.

    Raises:
        ValueError: it is cut off.
    """
    start = at + _SIZE.size
    if start > len(image):
        raise ValueError("cut off")
    end = start + _SIZE.unpack_from(image, at)[0]
    if end > len(image):
        raise ValueError("cut off")
    return image[start:end], end


def messages(image: bytes) -> Iterator[bytes]:
    """Yield the messages of an image that holds nothing else."""
    at, end, size = MAGIC, len(image), _SIZE
    while at < end:  # not by ``message``: there may be ten thousand
        start = at + size.size
        if start > end or (at := start + size.unpack_from(image, at)[0]) > end:
            raise ValueError("cut off")
        yield image[start:at]


def framed(text: bytes) -> bytes:
    """Return a message as an image holds it."""
    return _SIZE.pack(len(text)) + text
