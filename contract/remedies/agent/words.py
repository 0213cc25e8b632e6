"""Words that many of the agent's reasons share, and the section that they are in."""

from __future__ import annotations

from typing import Final

from contract.api import keys
from contract.api.states import Admission
from contract.remedies.registry import ANOTHER_VERSION, REASONS_PAGE, Origin, Section

SECTION: Final = Section(
    REASONS_PAGE,
    Origin(
        "the node agent",
        f"in field `reason` of annotation `{keys.ANN_RESTORE_REPORT}` of the pod and `{keys.ANN_CAPTURE_REPORT}` of "
        "the capture Job, and in Events of both",
    ),
    "Restore and capture",
    intro=f"How a restore ended is written on the pod: `{keys.ANN_RESTORE_STATUS_PREFIX}<container>` says `completed` "
    f"or `failed`, `{keys.ANN_RESTORE_REPORT}` says why and how long each phase took, and an Event says it in words.\n"
    "A failed restore is a cold start in the same container; the first line of the worker's log begins with "
    "`SNAPSHOT_COLD_START`.\n"
    "If there is nothing to restore (the checkpoint was deleted, failed, or is another one), the node agent says so at "
    "once and the cold start waits for nothing.\n"
    f"How a capture ended is written on its Job (`{keys.ANN_CHECKPOINT_STATUS}`, `-capture-message`, "
    "`-capture-report`), from where the DynamoCheckpoint takes its message.\n"
    "The codes below are a closed list: alerts may match it.",
    headings_above=frozenset(Admission),
)
RAISE: Final = f"capture again: `kubectl annotate dckpt NAME {keys.ANN_ARTIFACT_VERSION}{ANOTHER_VERSION}"
CAPTURE_AGAIN: Final = RAISE[0].upper() + RAISE[1:] + "."
AGENT_PODS: Final = f"`kubectl get pods -A -o wide -l {keys.LABEL_AGENT}={keys.LABEL_AGENT_VALUE}`"
BYPASS: Final = (
    "If you know better, annotate the pod, or set `config.restore.bypass` ([compatibility](compatibility.md))."
)
