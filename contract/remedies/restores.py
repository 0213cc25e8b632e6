"""What the controller says about restores that no agent speaks of."""

from __future__ import annotations

from typing import Final

from contract.api import keys
from contract.api.states import RestoreEvent
from contract.remedies.registry import REASONS_PAGE, Origin, Reason, Section

_SECTION: Final = Section(
    REASONS_PAGE,
    Origin("the controller", "in Events about a pod that was to be restored"),
    "Restores that no agent speaks of",
    "restores-that-no-agent-speaks-of",
    "The agent of a pod's node writes what becomes of a restore. If it does not, the controller says so:",
)

RESTORE_REASONS: Final = (
    Reason(
        _SECTION,
        RestoreEvent.AGENT_SILENT,
        "No agent has said anything of the pod since its container started: it starts cold.",
        (
            "`snapshotctl doctor` looks at the agents; "
            f"`kubectl get pods -A -o wide -l {keys.LABEL_AGENT}={keys.LABEL_AGENT_VALUE}` shows that of the node."
        ),
        "A Warning, once for each pod. An agent that comes back writes its report on the pod all the same.",
    ),
)

RESTORE: Final = {reason.code: reason for reason in RESTORE_REASONS}
"""By ``RestoreEvent``."""
