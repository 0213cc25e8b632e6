"""Containers that do not wait, or are another's."""

from __future__ import annotations

from typing import Final

from contract.api.states import AgentReason
from contract.remedies.agent.words import AGENT_PODS, SECTION
from contract.remedies.registry import Reason

CONTAINERS: Final = (
    Reason(
        SECTION,
        AgentReason.STANDBY_NOT_UP,
        "No `snapshot-standby` waited in the container.",
        "Build the placeholder image again, and let the webhook shape the pod.",
        "The image is no placeholder, or the container's command does not begin with standby.",
    ),
    Reason(
        SECTION,
        AgentReason.ALREADY_STARTED,
        "The container started by itself before an agent could claim it.",
        f"Look at the agent on that node: {AGENT_PODS}.",
        (
            "No agent was on the node for five seconds, or the agent was restarted meanwhile. The first line of the "
            "worker's log says how it started."
        ),
    ),
    Reason(
        SECTION,
        AgentReason.CLAIM_GONE,
        "Standby stopped waiting while it was being claimed.",
        "Nothing to do if it is rare; else look whether the node is overloaded.",
    ),
    Reason(
        SECTION,
        AgentReason.CONTROL_BLOCKED,
        "The agent's word for standby could not be written into the container's control directory: a folder of that "
        "name is in the way, or the volume is full.",
        "Find out what in the container writes there, and why; no process but standby and the SDK has business there.",
    ),
    Reason(
        SECTION,
        AgentReason.CLAIM_TAKEN,
        "Another agent holds the container.",
        "Look whether two releases serve the same namespace.",
    ),
    Reason(
        SECTION,
        AgentReason.AGENT_DIED,
        "An agent ended in the middle of the work.",
        "Look why: `kubectl describe pod` of the agent, most often its memory limit.",
        "A restore is followed by a cold start; a capture must be made again under a new version.",
    ),
)
