"""How a capture of a running pod is asked for and answered: two annotations of that pod.

Every user who may change the pod may have written them, so they are read as words and nothing else.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from contract.api.checkpoint import source_pod
from contract.api.states import Phase

MAX_RESULT: Final = 128 << 10
"""Characters; all annotations of an object share 256 KiB."""


@dataclass(frozen=True)
class CaptureResult:
    """The agent's word on the capture of a running pod."""

    request: str
    """The annotation that asked for it, as it was."""
    checkpoint: str
    """UID of the DynamoCheckpoint."""
    version: str
    """Empty if it was refused before that was known."""
    notes: Mapping[str, str] = field(default_factory=dict)
    """What the agent would have written on a capture Job: annotation -> value."""

    def to_json(self) -> str:
        """Return the annotation's value."""
        return json.dumps(asdict(self), separators=(",", ":"))


def new_request(checkpoint: str) -> str:
    """Return the annotation that asks for a capture, unlike all before."""
    return f"{checkpoint}@{secrets.token_hex(4)}"


def requested_checkpoint(request: str) -> str:
    """Return the name of the DynamoCheckpoint that a request names."""
    return request.partition("@")[0].strip()


def is_capturing(checkpoint: Mapping[str, Any], pod: Mapping[str, Any]) -> bool:
    """Say whether a checkpoint is being made of this very pod."""
    phase = (checkpoint.get("status") or {}).get("phase") or Phase.PENDING
    ended = phase in (Phase.READY, Phase.FAILED)
    return not ended and source_pod(checkpoint).get("podUID") == pod["metadata"]["uid"]


def read_result(text: str) -> CaptureResult | None:
    """Parse a result; None if it is none."""
    if len(text) > MAX_RESULT:
        return None
    try:
        found: Any = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict) or not isinstance(found.get("notes"), dict):
        return None
    request, checkpoint, version = (found.get(key) for key in ("request", "checkpoint", "version"))
    notes = {str(key): value for key, value in found["notes"].items() if isinstance(value, str)}
    if not isinstance(request, str) or not isinstance(checkpoint, str) or not isinstance(version, str):
        return None
    return CaptureResult(request, checkpoint, version, notes)
