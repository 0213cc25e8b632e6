"""Ids of a graph's automatic checkpoints: one for each generation of each service of one graph, shared with no other.

The rules are the platform's, so that its tools find the same names.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any, Final

Json = dict[str, Any]

ID_LENGTH: Final = 32
WORKER_HASH_LENGTH: Final = 8
_BACKENDS: Final = ("vllm", "sglang", "trtllm")
_COMPACT: Final[Json] = {"ensure_ascii": False, "separators": (",", ":")}
UID_PARAMETER: Final = "dgdUID"
GENERIC: Final = "generic"


def checkpoint_id(*, namespace: str, graph: str, uid: str, component: str, worker_hash: str) -> str:
    """First 32 hex characters of the SHA-256 over compact JSON in this order; empty fields but the names left out."""
    fields = {
        "namespace": namespace,
        "dgdName": graph,
        "dgdUID": uid,
        "componentName": component,
        "workerHash": worker_hash,
    }
    always = ("dgdName", "componentName")
    said = {key: value for key, value in fields.items() if value or key in always}
    return _digest(json.dumps(said, **_COMPACT))[:ID_LENGTH]


def worker_hash(templates: Iterable[tuple[str, Mapping[str, Any]]]) -> str:
    """Return the generation of a graph's workers: a hash over their pod templates by service, as the user wrote them.

    How many there are, who scales them and how their checkpoint is kept is in no template, so it changes nothing.
    """
    return _sorted_digest(dict(templates))[:WORKER_HASH_LENGTH]


def identity(*, namespace: str, graph: str, uid: str, component: str, checkpoint: str, backend: str) -> Json:
    """Return ``spec.identity`` of an automatic checkpoint: the API wants one, nothing decides by it."""
    return {
        "model": f"{namespace}/{graph}",
        "backendFramework": backend,
        "extraParameters": {UID_PARAMETER: uid, "componentName": component, "checkpointID": checkpoint},
    }


def backend_of(said: str, container: Mapping[str, Any]) -> str:
    """Return the inference framework: what the graph says, else what the command line names, else generic."""
    if said in _BACKENDS:
        return said
    line = " ".join(str(word) for field in ("command", "args") for word in container.get(field) or ())
    return next((name for name in _BACKENDS if f"dynamo.{name}" in line), GENERIC)


def applied_hash(body: Mapping[str, Any]) -> str:
    """Return a hash that differs between two applied configurations."""
    return _sorted_digest(body)[:ID_LENGTH]


def _sorted_digest(value: Any) -> str:  # noqa: ANN401 - any JSON value
    # Two spellings of one map are the same.
    return _digest(json.dumps(value, **_COMPACT, sort_keys=True))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()
