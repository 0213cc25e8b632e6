"""How a worker asks for its own capture: one request, from inside of its container."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Final

from contract.api import keys

ADDRESS: Final = ipaddress.IPv4Address("169.254.169.253")
"""On the loopback device of the pod's network: no packet to it leaves the pod."""
PORT: Final = 8234
PATH: Final = "/checkpoint"


def opts_in(labels: Mapping[str, str], annotations: Mapping[str, str]) -> bool:
    """Say whether a pod opts in by the worker's own request alone: nothing else says what its checkpoint is."""
    others = (keys.LABEL_RESTORE, keys.LABEL_IS_SOURCE)
    if labels.get(keys.LABEL_TRIGGER) != "true" or any(key in labels for key in others):
        return False
    return annotations.get(keys.ANN_RESTORE_CANDIDATE) != "true"


class TriggerStatus(StrEnum):
    """What became of the request."""

    CREATED = "created"
    SKIPPED = "skipped"
    FAILED = "failed"


EXISTS: Final = "exists"
"""Reason of SKIPPED: there is a checkpoint of this template already."""
IN_PROGRESS: Final = "in-progress"
"""Reason of SKIPPED: this pod, another one or a Job is captured for it now."""


@dataclass(frozen=True)
class TriggerAnswer:
    """The answer: always 200, as the worker goes on whatever it is."""

    status: TriggerStatus
    reason: str = ""
    """Why it was skipped or failed, for programs and people; empty if it was created."""
    checkpoint: str = ""
    """Name of the DynamoCheckpoint."""
    id: str = ""
    """Of the artifact."""

    def to_json(self) -> str:
        """Return the body."""
        return json.dumps(asdict(self))
