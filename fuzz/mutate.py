"""Mutation of JSON by its structure: bytes changed at random would hardly ever be JSON again."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from random import Random
from typing import Any, Final

import orjson

from contract.api import keys

Json = Any
Path = tuple[str | int, ...]

BYTES_SHARE: Final = 0.1
"""Of all mutations: those of bytes, which reach the parsers of JSON itself."""
MOST_CHANGES: Final = 4

_KEYS: Final = sorted({value for name, value in vars(keys).items() if name.isupper() and isinstance(value, str)})
_OTHERS: Final = ("main", "qwen", "Ready", "Pending", "Failed", "CREATE", "../x", "\0", "a" * 64, "true", "1Gi", "ns")
WORDS: Final = (*_KEYS, *_OTHERS)
GARBAGE: Final[tuple[Json, ...]] = (
    None,
    {},
    [],
    "",
    0,
    -1,
    2**53,
    2**63,
    1e308,
    True,
    False,
    [None],
    [{}],
    [[]],
    {"": 0},
)


def mutate(data: bytes, max_size: int, seed: int) -> bytes:
    """Make another input of *data*; what the engine calls."""
    chance = Random(seed)
    value = None if chance.random() < BYTES_SHARE else _json(data)
    if value is None:
        return _changed_bytes(data, chance)[:max_size]
    for _ in range(chance.randint(1, MOST_CHANGES)):
        value = _changed(value, chance)
    try:
        found = orjson.dumps(value)
    except TypeError:  # a number too large
        return data
    return found if len(found) <= max_size else data


def _json(data: bytes) -> Json:
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        return None


def _changed_bytes(data: bytes, chance: Random) -> bytes:
    """Return *data* with a piece of some bytes repeated, left out, or replaced."""
    start = chance.randint(0, len(data))
    end = min(len(data), start + chance.randint(0, 8))
    new = (data[start:end] * chance.choice((2, 3, 1000)), b"", chance.randbytes(chance.randint(1, 4)))
    return data[:start] + chance.choice(new) + data[end:]


def _changed(value: Json, chance: Random) -> Json:
    """Return *value* with something else in one place."""
    path = chance.choice(list(_places(value)))
    if not path:
        return value
    holder = _at(value, path[:-1])
    change = chance.choice((_put_garbage, _put_word, _put_copy, _remove, _add, _rename))
    if isinstance(holder[path[-1]], str) and chance.random() < BYTES_SHARE * 3:
        holder[path[-1]] = _changed_bytes(holder[path[-1]].encode(), chance).decode("utf-8", "replace")
    else:
        change(value, holder, path[-1], chance)
    return value


def _put_garbage(_value: Json, holder: Json, key: str | int, chance: Random) -> None:
    holder[key] = copy.deepcopy(chance.choice(GARBAGE))


def _put_word(_value: Json, holder: Json, key: str | int, chance: Random) -> None:
    holder[key] = chance.choice(WORDS)


def _put_copy(value: Json, holder: Json, key: str | int, chance: Random) -> None:
    holder[key] = copy.deepcopy(_at(value, chance.choice(list(_places(value)))))


def _remove(_value: Json, holder: Json, key: str | int, _chance: Random) -> None:
    del holder[key]


def _add(_value: Json, holder: Json, key: str | int, chance: Random) -> None:
    if isinstance(holder, list):
        holder.append(copy.deepcopy(holder[int(key)]))
    else:
        holder[chance.choice(WORDS)] = chance.choice((*GARBAGE, *WORDS))


def _rename(_value: Json, holder: Json, key: str | int, chance: Random) -> None:
    if isinstance(holder, dict):
        holder[chance.choice(WORDS)] = holder.pop(key)


def _at(value: Json, path: Path) -> Json:
    for key in path:
        value = value[key]
    return value


def _places(value: Json, path: Path = ()) -> Iterator[Path]:
    yield path
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in inner:
        yield from _places(item, (*path, key))
