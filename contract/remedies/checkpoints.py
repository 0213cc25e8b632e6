"""What each reason of a DynamoCheckpoint's conditions means and what to do; ``docs/checkpoint-reasons.md`` in short.

The keys are the controller's reasons. The page has a table for each section, so the link goes to the section.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from contract.api import keys
from contract.config.sections import UNSET_REGISTRY
from contract.remedies.admission import CHECKPOINT_PAGE, NOTHING, Remedy

_MESSAGE: Final = "Do what the message says."
_ITSELF: Final = "It goes on by itself once that is done."
_VERSION: Final = (
    f"Correct what the message names, then set annotation {keys.ANN_ARTIFACT_VERSION} to a new value to capture again."
)

_SECTIONS: Final[Mapping[str, Mapping[str, tuple[str, str]]]] = {
    "phases": {
        "Pending": ("Nothing is in the way; the next step follows.", "Wait."),
        "Creating": ("The capture Job is at work.", "Wait; `snapshotctl describe NAME` shows its pods and Events."),
        "CheckpointReady": ("The artifact is published and verified.", NOTHING),
        "CheckpointFailed": ("The capture ended without an artifact.", _VERSION),
    },
    "before-there-is-a-job": {
        "InvalidCheckpointID": ("The id label, or the identity, makes no usable id.", _MESSAGE),
        "DuplicateCheckpointID": (
            "Another checkpoint of the namespace has the same id.",
            "Use that one, delete it, or change the identity in a new object.",
        ),
        "GMSSnapshotDisabled": (
            "GPU memory service together with snapshots is not supported.",
            "Remove spec.gpuMemoryService.",
        ),
        "TemplateAccepted": ("The API server accepts the Job made from the template.", NOTHING),
        "TemplateInvalid": (
            "The API server does not accept the Job made from the template.",
            "Correct spec.job.podTemplateSpec; it is tried again by itself.",
        ),
        "JobForbidden": (
            "A quota or a policy forbids the capture Job.",
            "Make room or ask for the right; it is tried again every 30 s.",
        ),
        "JobNotOurs": ("A Job of that name exists and belongs to another owner.", "Delete or rename that Job."),
    },
    "storage": {
        "StorageInvalid": (
            "The chart's storage values contradict each other.",
            "Correct the value that the message names with `helm upgrade`.",
        ),
        "AgentMountsStorage": ("The agent brings the checkpoint volume.", NOTHING),
        "VolumeClaimFound": ("The volume claim is there.", NOTHING),
        "VolumeClaimCreated": ("The controller made the volume claim.", NOTHING),
        "VolumeClaimMissing": (
            "The volume claim is not there.",
            f"Create it, or set storage.pvc.create=true. {_ITSELF}",
        ),
        "VolumeClaimRefused": ("The API server refused to make the volume claim.", _MESSAGE),
        "VolumeClaimLost": ("The claim's volume no longer exists.", "Restore the volume or make a new claim."),
        "AgentMissing": (
            "No snapshot agent is installed that could mount the checkpoint volume.",
            "Install the chart in that namespace, or restore its DaemonSet.",
        ),
        "AgentNotReady": ("No pod of the snapshot agent is ready.", "Look at the pods that the message names."),
        "AgentStorageDiffers": (
            "The agent mounts another volume, or at another path, than the chart's values say.",
            "Undo what was changed by hand with `helm upgrade`.",
        ),
        "StorageChanged": (
            "The artifact is where the installation's storage values pointed before.",
            f"Set them back, move the artifact, or set annotation {keys.ANN_ARTIFACT_VERSION} to capture again.",
        ),
    },
    "the-job": {
        "JobCreated": ("The capture Job exists.", NOTHING),
        "JobDeleted": ("The Job was deleted before it was done.", _VERSION),
        "JobSucceeded": ("The Job is complete and the artifact verified.", NOTHING),
        "JobFailed": ("The Job failed, or the agent said why it could not capture.", _VERSION),
        "CheckpointVerificationFailed": (
            "The Job is complete, but no agent vouched for the artifact.",
            "Look at the agent on that node and its log.",
        ),
        "RetryScheduled": (
            "A capture of an automatic checkpoint failed, and the next attempt is due at a known time.",
            "Wait, or correct what the message names.",
        ),
        "WorkloadGone": (
            "Its workload no longer exists and no pod names it, so the capture no longer waits for a node.",
            "Nothing to do: a new pod of the same template has it captured by itself. Delete it if none will come.",
        ),
    },
    "adoption": {
        "AdoptionRunning": ("A Job looks at the artifact in storage.", "Wait."),
        "AdoptionBlocked": (
            "The Job that is to look at the artifact in storage does not start.",
            f"{_MESSAGE} {_ITSELF}",
        ),
        "Adopted": ("An artifact that was in storage already was verified and taken over.", NOTHING),
        "AdoptionFailed": ("The artifact that was to be taken over is missing, partial or another one.", _MESSAGE),
    },
    "its-pod": {
        "Scheduled": ("The capture pod has a node.", NOTHING),
        "Unschedulable": (
            "No node takes the capture pod.",
            "Free what the scheduler misses; the time does not count against the deadline.",
        ),
        "PodNotCreated": ("The Job cannot make its pod.", _MESSAGE),
        "ContainerNotStarted": (
            "The container cannot start; often the image is not a placeholder image.",
            _MESSAGE,
        ),
        "ImageNotPulled": (
            "The image cannot be pulled.",
            (
                f"Correct its name or the pull secret in the template; for an image of {UNSET_REGISTRY} set "
                "daemonset.image.repository and controlPlane.image.repository, or global.imageRegistry."
            ),
        ),
        "NoAgent": ("The worker is ready and no agent takes it up.", "Look at the agent on that node."),
    },
    "deletion": {
        "CleanupRunning": ("A Job removes the artifact.", "Wait."),
        "CleanupFailed": ("That Job failed and is tried again.", "Read its log."),
        "CleanupBlocked": ("Something keeps it from being removed.", _MESSAGE),
        "ArtifactRemoved": ("The artifact no longer exists.", NOTHING),
        "ArtifactKept": (
            "The object was deleted, the artifact stays.",
            "Remove it from the volume if it is not needed.",
        ),
    },
    "retention": {
        "VersionRemoved": ("An older version was removed from storage, as retention says.", NOTHING),
        "CheckpointExpired": ("Retention deletes this checkpoint, its artifacts go with it.", NOTHING),
        "RetentionDryRun": (
            "Retention would remove something; retention.dryRun keeps it from doing so.",
            "Set retention.dryRun=false once you agree.",
        ),
        "QuotaExceeded": (
            "The namespace's artifacts exceed retention.namespaceQuota, and what is left may not be removed.",
            "Delete checkpoints that are no longer needed, or raise the quota.",
        ),
    },
}

CHECKPOINT: Final[Mapping[str, Remedy]] = {
    reason: Remedy(meaning, remedy, f"{CHECKPOINT_PAGE}#{section}")
    for section, rows in _SECTIONS.items()
    for reason, (meaning, remedy) in rows.items()
}
"""By the controller's ``Reason``."""
