"""What each reason of a DynamoGraphDeployment's conditions and Events means."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from contract.api.states import GraphReason
from contract.remedies.registry import GRAPH_PAGE, NOTHING, Origin, Reason, Section

_ORIGIN: Final = Origin("the controller", "in conditions and Events of the DynamoGraphDeployment")
_READY: Final = Section(GRAPH_PAGE, _ORIGIN, "Ready", "ready")
_CHECKPOINTS: Final = Section(GRAPH_PAGE, _ORIGIN, "Checkpoints", "checkpoints")
_DEPLOYMENTS: Final = Section(GRAPH_PAGE, _ORIGIN, "Deployments", "deployments")

GRAPH_REASONS: Final = (
    Reason(_READY, GraphReason.ALL_READY, "Every service has all its pods.", NOTHING),
    Reason(
        _READY,
        GraphReason.SOME_NOT_READY,
        "Pods are being started, or do not become ready.",
        "Wait; if it stays, `kubectl describe` the pods of the services that the message names.",
    ),
    Reason(
        _READY,
        GraphReason.WAITING,
        "Workers are kept at zero replicas until their checkpoint is Ready.",
        "Wait; if it fails, or after `waitTimeout`, they start cold. `snapshotctl get` shows how far it is.",
        (
            "The chart value `waitTimeout` is 30 minutes by default; `status.checkpoints.SERVICE.waitingSince` says "
            "since when they wait."
        ),
    ),
    Reason(
        _READY,
        GraphReason.NOT_RECONCILED,
        "A service cannot be made.",
        "Do what the message says; the other services run.",
    ),
    Reason(
        _CHECKPOINTS,
        GraphReason.RESOLVED,
        "Every service that wants a checkpoint has one, or one in the making.",
        NOTHING,
    ),
    Reason(
        _CHECKPOINTS,
        GraphReason.CHECKPOINT_NOT_FOUND,
        "No DynamoCheckpoint of the namespace has the name or the id in `checkpointRef`.",
        "Create it, correct `checkpointRef`, or remove it for an automatic checkpoint.",
    ),
    Reason(
        _CHECKPOINTS,
        GraphReason.CHECKPOINT_REFUSED,
        "The API server refuses the DynamoCheckpoint; the workers start cold.",
        "Make room or ask for the right, as the message says; it is tried again every 30 s.",
    ),
    Reason(
        _CHECKPOINTS,
        GraphReason.CHECKPOINT_FAILED,
        "The checkpoint failed, so workers that would have waited start cold.",
        "Correct the cause, then delete the DynamoCheckpoint that the message names: the graph makes it again.",
    ),
    Reason(
        _CHECKPOINTS,
        GraphReason.WAIT_TIMED_OUT,
        "The checkpoint was not Ready within `waitTimeout`, so workers that waited start cold.",
        "Do what the message says: it quotes what the capture waits for; or raise `waitTimeout`.",
        (
            "The capture often waits for a free GPU. It continues: once the checkpoint is Ready new workers restore, "
            "and those that run stay."
        ),
    ),
    Reason(_CHECKPOINTS, GraphReason.CHECKPOINT_READY, "The checkpoint is Ready; new workers restore.", NOTHING),
    Reason(
        _CHECKPOINTS,
        GraphReason.CHECKPOINT_CREATED,
        "A DynamoCheckpoint was made for a service's generation.",
        NOTHING,
    ),
    Reason(
        _CHECKPOINTS,
        GraphReason.CHECKPOINTS_DISABLED,
        "Checkpoints are switched off for this graph.",
        "Set `checkpoint.enabled=true`, or take the namespace off `webhook.excludedNamespaces`.",
    ),
    Reason(
        _CHECKPOINTS,
        GraphReason.GMS_DISABLED,
        "GPU memory service together with a checkpoint is not supported.",
        "Switch one of the two off.",
    ),
    Reason(
        _CHECKPOINTS,
        GraphReason.NOT_A_WORKER,
        "The service's type has nothing to restore.",
        ("Correct `componentType`, or remove its checkpoint block; only worker, prefill and decode have checkpoints."),
    ),
    Reason(
        _CHECKPOINTS,
        GraphReason.TARGET_MISSING,
        "The service has no container of the name that is to be restored.",
        "Correct `checkpoint.targetContainerName`.",
    ),
    Reason(
        _DEPLOYMENTS,
        GraphReason.NAME_TAKEN,
        "The Deployment that the service needs has another owner.",
        "Delete it, or rename the service.",
    ),
    Reason(
        _DEPLOYMENTS,
        GraphReason.SERVICE_INVALID,
        "The service asks for something that is not served.",
        "Do what the message says.",
    ),
    Reason(
        _DEPLOYMENTS,
        GraphReason.DEPLOYMENT_REFUSED,
        "The API server refuses the service's Deployment.",
        "Read the server's words, which the message quotes, and correct `extraPodSpec`.",
    ),
    Reason(
        _DEPLOYMENTS,
        GraphReason.DEPLOYMENT_REMOVED,
        "A service was removed from the graph, and its Deployment with it.",
        NOTHING,
    ),
)

GRAPH: Final[Mapping[str, Reason]] = {reason.code: reason for reason in GRAPH_REASONS}
"""By ``GraphReason``."""
