"""What the codes of the node agent's reports mean."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from contract.remedies.agent.artifacts import ARTIFACTS
from contract.remedies.agent.containers import CONTAINERS
from contract.remedies.agent.devices import DEVICES
from contract.remedies.agent.files import FILES
from contract.remedies.agent.orders import ORDERS
from contract.remedies.agent.places import PLACES
from contract.remedies.agent.work import WORK
from contract.remedies.agent.workers import WORKERS
from contract.remedies.registry import Reason

AGENT_REASONS: Final = (*ORDERS, *WORKERS, *CONTAINERS, *ARTIFACTS, *PLACES, *FILES, *DEVICES, *WORK)

AGENT: Final[Mapping[str, Reason]] = {reason.code: reason for reason in AGENT_REASONS}
"""By ``AgentReason``."""
