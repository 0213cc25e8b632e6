"""What the agent was asked for, and where artifacts are."""

from __future__ import annotations

from typing import Final

from contract.api import keys
from contract.api.states import AgentReason
from contract.remedies.agent.words import CAPTURE_AGAIN, SECTION
from contract.remedies.registry import Reason

ORDERS: Final = (
    Reason(
        SECTION,
        AgentReason.CHECKPOINT_UNNAMED,
        "The pod carries a checkpoint id, but nothing says which manifest may be restored.",
        (
            "Take the id out of the pod template and let the webhook shape the pod: opt in with label "
            f"`{keys.LABEL_RESTORE}: {keys.RESTORE_BY_NAME}`."
        ),
        f"The annotation `{keys.ANN_CHECKPOINT}` is missing.",
    ),
    Reason(
        SECTION,
        AgentReason.CHECKPOINT_NOT_FOUND,
        "The DynamoCheckpoint was deleted between the pod's admission and its start.",
        "Create it again, or take the opt-in off.",
    ),
    Reason(
        SECTION,
        AgentReason.CHECKPOINT_NOT_READY,
        "The DynamoCheckpoint stopped being Ready between the pod's admission and its start.",
        "`snapshotctl describe NAME` says why; pods created once it is Ready are restored.",
    ),
    Reason(
        SECTION,
        AgentReason.CHECKPOINT_CHANGED,
        "The DynamoCheckpoint now names another artifact than the pod was shaped for.",
        "Delete the pod: its successor is shaped for the new one.",
    ),
    Reason(
        SECTION,
        AgentReason.DIGEST_UNKNOWN,
        "The DynamoCheckpoint has no `status.manifestDigest`, so no manifest can be trusted.",
        CAPTURE_AGAIN,
    ),
    Reason(
        SECTION,
        AgentReason.ID_INVALID,
        "The id or version on the pod is not made of lower-case letters, digits and hyphens.",
        "Correct it where it comes from; the webhook and controller write none such.",
    ),
    Reason(
        SECTION,
        AgentReason.TARGETS_INVALID,
        "The pod lacks a container that is named as target, or a capture pod has more than one target.",
        (
            f"Correct annotation `{keys.ANN_TARGET_CONTAINERS}` of the pod template, or "
            "`spec.job.targetContainerName` of the DynamoCheckpoint."
        ),
    ),
    Reason(
        SECTION,
        AgentReason.STORAGE_PATH,
        "The storage path on the pod is not a clean absolute path.",
        "Correct `storage.pvc.basePath` of the chart, or take the annotation off the pod template.",
        f"It is annotation `{keys.ANN_STORAGE_BASE_PATH}`.",
    ),
    Reason(
        SECTION,
        AgentReason.STORAGE_TYPE,
        "The pod names a store that this version does not serve.",
        f"Take annotation `{keys.ANN_STORAGE_TYPE}` off the pod template; only `pvc` is served.",
    ),
    Reason(
        SECTION,
        AgentReason.STORAGE_MISSING,
        "The checkpoint volume is not mounted.",
        "Look at the PersistentVolumeClaim and at the chart's `storage` values.",
        "It is mounted in the agent with `agentMount`, in the pod with `podMount`.",
    ),
    Reason(
        SECTION,
        AgentReason.STORAGE_UNWRITABLE,
        "The checkpoint volume could not be written, most often because it is full.",
        "Make room: delete DynamoCheckpoints that are no longer needed, or enlarge the volume.",
    ),
)
