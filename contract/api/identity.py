"""The identity hash: the id of checkpoints that are written by hand.

It must equal the hash of the Go implementation bit for bit, because users compute it and name objects after it:
compact JSON with a fixed key order, empty fields left out, and Go's escaping of characters special to HTML.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Final

HASH_LENGTH: Final = 16
_ORDER: Final = (
    "model",
    "backendFramework",
    "dynamoVersion",
    "tensorParallelSize",
    "pipelineParallelSize",
    "dtype",
    "maxModelLen",
    "extraParameters",
)
_SIZES: Final = frozenset({"tensorParallelSize", "pipelineParallelSize"})
# encoding/json of Go escapes these by default, also within strings.
_GO_ESCAPES: Final = str.maketrans({c: f"\\u{ord(c):04x}" for c in "<>&\u2028\u2029"})


def identity_hash(identity: Mapping[str, Any]) -> str:
    """Return the first 16 hex characters of the SHA-256 over the canonical JSON of ``spec.identity``.

    The two parallel sizes count as 1 if they are absent; all other empty fields are left out.
    """
    fields = {key: _canonical(key, identity.get(key)) for key in _ORDER}
    text = json.dumps({k: v for k, v in fields.items() if v}, ensure_ascii=False, separators=(",", ":"))
    escaped = text.translate(_GO_ESCAPES)
    # Go writes the replacement character for what is not valid Unicode.
    return hashlib.sha256(escaped.encode("utf-8", "replace")).hexdigest()[:HASH_LENGTH]


def _canonical(key: str, value: Any) -> Any:  # noqa: ANN401 - any JSON value
    if key in _SIZES:
        return value or 1
    if isinstance(value, Mapping):
        return dict(sorted(value.items()))
    return value
