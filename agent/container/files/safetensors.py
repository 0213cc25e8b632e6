"""Where the tensors of a safetensors file are, by its header, which is hostile: anyone may have written the file.

The format: eight bytes with the length of the header, the header (a JSON object; each name but ``__metadata__`` has
``data_offsets``, the first byte of the tensor and the first behind it, counted from the end of the header), the bytes.
"""

import json
import os
import struct
from typing import Any, Final

MOST_HEADER: Final = 8 << 20
"""Bytes; some hundred for each tensor are usual."""
_LENGTH: Final = struct.Struct("<Q")
_METADATA: Final = "__metadata__"


class HeaderError(ValueError):
    """It is no safetensors file, or contradicts itself."""


def read_tensors(file: int) -> list[tuple[int, int]]:
    """Return where each tensor of an open file begins, and how many bytes it has.

    Raises:
        HeaderError: its header says something else than the format has.
        OSError: it cannot be read.
    """
    size = os.fstat(file).st_size
    begin = os.pread(file, _LENGTH.size, 0)
    if len(begin) != _LENGTH.size:
        raise HeaderError("is too short")
    (length,) = _LENGTH.unpack(begin)
    if length > min(MOST_HEADER, size - _LENGTH.size):
        raise HeaderError("has too long a header")
    header = os.pread(file, length, _LENGTH.size)
    if len(header) != length:
        raise HeaderError("was cut short")
    return parse_header(header, size - _LENGTH.size - length)


def parse_header(header: bytes, size: int) -> list[tuple[int, int]]:
    """Return the tensors that a header names, as ``read_tensors`` does.

    Args:
        header: without its length.
        size: bytes behind it.

    Raises:
        HeaderError: it says something else than the format has.
    """
    try:
        document = json.loads(header)
    except (ValueError, RecursionError) as error:
        raise HeaderError("has no header of JSON") from error
    if not isinstance(document, dict):
        raise HeaderError("has no object as its header")
    start = _LENGTH.size + len(header)
    places = [_place(tensor, size) for name, tensor in document.items() if name != _METADATA]
    return [(start + first, end - first) for first, end in places]


def _place(tensor: Any, size: int) -> tuple[int, int]:  # noqa: ANN401 - any JSON value
    offsets = tensor.get("data_offsets") if isinstance(tensor, dict) else None
    if not isinstance(offsets, list) or [type(each) for each in offsets] != [int, int]:
        raise HeaderError("has a tensor without a place")
    first, end = offsets
    if not 0 <= first <= end <= size:
        raise HeaderError("has a tensor beyond its end")
    return first, end
