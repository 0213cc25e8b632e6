"""Artifacts that are missing, damaged or unreadable."""

from __future__ import annotations

from typing import Final

from contract.api.states import AgentReason
from contract.remedies.agent.words import CAPTURE_AGAIN, RAISE, SECTION
from contract.remedies.registry import Reason

ARTIFACTS: Final = (
    Reason(
        SECTION,
        AgentReason.ARTIFACT_MISSING,
        "The artifact is not in the store.",
        CAPTURE_AGAIN,
        "It was removed by hand, or the volume is another one.",
    ),
    Reason(
        SECTION,
        AgentReason.ARTIFACT_UNREADABLE,
        "The artifact is there but cannot be read; the message says why.",
        "Look at the volume.",
    ),
    Reason(
        SECTION,
        AgentReason.ARTIFACT_CORRUPT,
        "A file of the artifact is not what its manifest says.",
        CAPTURE_AGAIN + " Look at the volume's health.",
    ),
    Reason(
        SECTION,
        AgentReason.ARTIFACT_EXISTS,
        "An artifact of that id and version exists already and is never overwritten.",
        f"Take it over with `snapshotctl adopt NAME --version VERSION`, or {RAISE}.",
    ),
    Reason(
        SECTION,
        AgentReason.MANIFEST_UNREADABLE,
        "The artifact's manifest is missing parts or is not YAML.",
        CAPTURE_AGAIN,
    ),
    Reason(
        SECTION,
        AgentReason.MANIFEST_DIGEST,
        "The artifact's manifest is not the one that the DynamoCheckpoint names: it was changed or replaced.",
        CAPTURE_AGAIN + " Find out who writes to the volume.",
    ),
    Reason(
        SECTION,
        AgentReason.MANIFEST_FORMAT,
        "The artifact was written by another version of this system.",
        CAPTURE_AGAIN,
    ),
)
