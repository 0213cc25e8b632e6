"""What each reason of a DynamoGraphDeployment's conditions means and what to do; ``docs/graph-reasons.md`` in short."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from contract.api.states import GraphReason
from contract.remedies.admission import NOTHING, Remedy

PAGE: Final = "docs/graph-reasons.md"

_SECTIONS: Final[Mapping[str, Mapping[GraphReason, tuple[str, str]]]] = {
    "ready": {
        GraphReason.ALL_READY: ("Every service has all its pods.", NOTHING),
        GraphReason.SOME_NOT_READY: (
            "Pods are being started, or do not become ready.",
            "Wait; if it stays, `kubectl describe` the pods of the services that the message names.",
        ),
        GraphReason.WAITING: (
            "Workers are kept at zero replicas until their checkpoint is Ready.",
            "Wait; if it fails, or after waitTimeout, they start cold. `snapshotctl get` shows how far it is.",
        ),
        GraphReason.NOT_RECONCILED: (
            "A service cannot be made.",
            "Do what the message says; the other services run.",
        ),
    },
    "checkpoints": {
        GraphReason.RESOLVED: ("Every service that wants a checkpoint has one, or one in the making.", NOTHING),
        GraphReason.CHECKPOINT_NOT_FOUND: (
            "No DynamoCheckpoint of the namespace has the name or the id in checkpointRef.",
            "Create it, correct checkpointRef, or remove it for an automatic checkpoint.",
        ),
        GraphReason.CHECKPOINT_REFUSED: (
            "The API server refuses the DynamoCheckpoint; the workers start cold.",
            "Make room or ask for the right, as the message says; it is tried again every 30 s.",
        ),
        GraphReason.CHECKPOINT_FAILED: (
            "The checkpoint failed, so workers that would have waited start cold.",
            "Correct the cause, then delete the DynamoCheckpoint that the message names: the graph makes it again.",
        ),
        GraphReason.WAIT_TIMED_OUT: (
            "The checkpoint was not Ready within waitTimeout, so workers that waited start cold.",
            "Do what the message says: it quotes what the capture waits for; or raise waitTimeout.",
        ),
        GraphReason.CHECKPOINT_READY: ("The checkpoint is Ready; new workers restore.", NOTHING),
        GraphReason.CHECKPOINT_CREATED: ("A DynamoCheckpoint was made for a service's generation.", NOTHING),
        GraphReason.CHECKPOINTS_DISABLED: (
            "Checkpoints are switched off for this graph.",
            "Set checkpoint.enabled=true, or take the namespace off webhook.excludedNamespaces.",
        ),
        GraphReason.GMS_DISABLED: (
            "GPU memory service together with a checkpoint is not supported.",
            "Switch one of the two off.",
        ),
        GraphReason.NOT_A_WORKER: (
            "The service's type has nothing to restore.",
            "Correct componentType, or remove its checkpoint block; only worker, prefill and decode have checkpoints.",
        ),
        GraphReason.TARGET_MISSING: (
            "The service has no container of the name that is to be restored.",
            "Correct checkpoint.targetContainerName.",
        ),
    },
    "deployments": {
        GraphReason.NAME_TAKEN: (
            "The Deployment that the service needs belongs to another owner.",
            "Delete it, or rename the service.",
        ),
        GraphReason.SERVICE_INVALID: (
            "The service asks for something that is not served.",
            "Do what the message says.",
        ),
        GraphReason.DEPLOYMENT_REFUSED: (
            "The API server refuses the service's Deployment.",
            "The message quotes it; correct extraPodSpec.",
        ),
        GraphReason.DEPLOYMENT_REMOVED: ("A service that was removed from the graph lost its Deployment.", NOTHING),
    },
}

GRAPH: Final[Mapping[str, Remedy]] = {
    reason.value: Remedy(meaning, remedy, f"{PAGE}#{section}")
    for section, rows in _SECTIONS.items()
    for reason, (meaning, remedy) in rows.items()
}
"""By ``GraphReason``."""
