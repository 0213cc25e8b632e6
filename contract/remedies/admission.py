"""What each code of the closed lists means and what to do about it: one sentence each, and the page that says more.

The command line prints them beside a code, so that no code has to be looked up.
The controller's reasons stand in ``contract.remedies.checkpoints``; that no list has a gap is a test's business.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from contract.api import keys
from contract.api.states import Admission, AgentReason, GateEnd

REASONS_PAGE: Final = "docs/reasons.md"
CHECKPOINT_PAGE: Final = "docs/checkpoint-reasons.md"
NOTHING: Final = "Nothing to do."
_RAISE: Final = f"capture again: set annotation {keys.ANN_ARTIFACT_VERSION} of the DynamoCheckpoint to a new value"
_CAPTURE_AGAIN: Final = _RAISE[0].upper() + _RAISE[1:] + "."
_READ: Final = "Read the message, correct the cause, then " + _RAISE + "."
_AGENT: Final = f"`kubectl get pods -A -o wide -l {keys.LABEL_AGENT}={keys.LABEL_AGENT_VALUE}`"


class Remedy(NamedTuple):
    """A code in words."""

    meaning: str
    remedy: str
    link: str
    """File and anchor, relative to the repository's root."""


def _page(page: str, rows: Mapping[str, tuple[str, str]], suffixes: Mapping[str, str]) -> dict[str, Remedy]:
    return {
        code: Remedy(meaning, remedy, f"{page}#{code}{suffixes.get(code, '')}")
        for code, (meaning, remedy) in rows.items()
    }


_ADMISSION: Final[Mapping[str, tuple[str, str]]] = {
    Admission.RESTORE_SHAPED: ("The pod restores from its checkpoint.", NOTHING),
    Admission.NOT_A_CREATE: (
        "Only the creation of pods is looked at; running pods are never changed.",
        "Delete the pod and let its owner create a new one.",
    ),
    Admission.CHECKPOINT_DISABLED: (
        "Checkpoints are switched off in this release.",
        "`helm upgrade` with checkpoint.enabled=true.",
    ),
    Admission.NAMESPACE_EXCLUDED: (
        "The release does not serve the pod's namespace.",
        (
            "Take it off webhook.excludedNamespaces, widen rbac.namespaceRestricted or webhook.namespaceSelector, "
            "or run the worker where the release serves."
        ),
    ),
    Admission.ALREADY_SHAPED: (
        "The pod carries the labels of a capture or restore pod already, so it is left as it is.",
        f"Remove labels {keys.LABEL_CHECKPOINT_ID} and {keys.LABEL_IS_SOURCE} from the pod template.",
    ),
    Admission.NOT_OPTED_IN: (
        "The pod did not ask to be restored.",
        (
            f"Add label {keys.LABEL_RESTORE}: {keys.RESTORE_AUTO} to the pod template, or {keys.RESTORE_BY_NAME} and "
            f"annotation {keys.ANN_CHECKPOINT_NAME}."
        ),
    ),
    Admission.CHECKPOINT_NAME_MISSING: (
        "The pod asked for restore without saying from what.",
        f"Add annotation {keys.ANN_CHECKPOINT_NAME} with the name of a DynamoCheckpoint of the same namespace.",
    ),
    Admission.NOT_OPERATOR_STAMPED: (
        "The pod is a restore candidate but no worker of a graph deployment.",
        f"Use label {keys.LABEL_RESTORE}: {keys.RESTORE_BY_NAME} in place of the candidate annotation.",
    ),
    Admission.CHECKPOINT_NOT_FOUND: (
        "No DynamoCheckpoint of that name exists in the pod's namespace.",
        "Create it, or correct the name; `snapshotctl get` lists them.",
    ),
    Admission.CHECKPOINT_NOT_READY: (
        "The checkpoint is still being made, so the pod starts cold.",
        (
            "Wait until it is Ready; pods created from then on are restored. `snapshotctl describe NAME` says what it "
            "waits for."
        ),
    ),
    Admission.CHECKPOINT_FAILED: ("The checkpoint could not be made.", _READ),
    Admission.CHECKPOINT_DELETING: ("The checkpoint is being deleted.", "Create a new one, or name another."),
    Admission.CHECKPOINT_ID_UNAVAILABLE: (
        "The checkpoint has no usable id or version.",
        "Correct its id label or version annotation, or look at the controller's log.",
    ),
    Admission.TARGETS_INVALID: (
        "The containers to restore cannot be determined.",
        f"Set annotation {keys.ANN_TARGET_CONTAINERS} to a comma-separated list of container names of the pod.",
    ),
    Admission.STORAGE_UNAVAILABLE: (
        "The chart's storage values contradict each other.",
        "Correct the value that the message names with `helm upgrade`.",
    ),
    Admission.VOLUME_CLAIM_UNAVAILABLE: (
        "The volume claim that a restored pod mounts is missing or going, so the pod starts cold without it.",
        "Make the claim again, with its old volume if that holds artifacts; pods created after that restore.",
    ),
    Admission.IMAGE_MISMATCH: (
        "The container's image is not the one that was captured.",
        (
            f"Use the captured image, map one to the other with placeholder.images, or accept it with annotation "
            f"{keys.ANN_IMAGE_POLICY}: {keys.IMAGE_POLICY_CHECKPOINT}."
        ),
    ),
    Admission.POD_UNSUPPORTED: (
        "The pod cannot be restored as it is written.",
        "Correct the field that the message names.",
    ),
    Admission.CHECKPOINT_REQUESTED: (
        "The pod starts cold and its checkpoint is being asked for: it is made from this very workload.",
        "Nothing to do: later pods restore once it is Ready. `snapshotctl get` shows how far it is.",
    ),
    Admission.HELD: (
        "The pod waits, unscheduled, until its checkpoint is Ready.",
        "Nothing to do: it is let go when the checkpoint is Ready, fails, is deleted, or after waitTimeout.",
    ),
    Admission.ENTRYPOINT_UNKNOWN: (
        "The container has no command, and what its image would run is not known.",
        "Write the command into the pod template, or capture again so that the agent notes the image's entrypoint.",
    ),
    Admission.PER_POD_IDENTITY: (
        "The worker takes its name, address or uid from the pod, which a restored process would have from another.",
        (
            f"Take the field out of the target's environment, or, where the worker renews it after a restore, set "
            f"annotation {keys.ANN_IDENTITY}: {keys.IDENTITY_REFRESHED}."
        ),
    ),
    Admission.NO_READY_SIGNAL: (
        "The target has neither a startup nor a readiness probe, so nothing says when it may be captured.",
        "Add a readiness probe to the target container, or create a DynamoCheckpoint by hand with readySignal: File.",
    ),
    Admission.WEBHOOK_UNREACHABLE: (
        "The webhook was not reached when the pod was created, so it starts cold.",
        (
            "Look at the webhook's pods: `kubectl get pods -A -l app.kubernetes.io/component=webhook`; then delete the "
            "pod so that its owner creates it again."
        ),
    ),
}
_POD: Final = "Delete the pod: its successor is shaped for what is there now."
_AGENT_REASONS: Final[Mapping[str, tuple[str, str]]] = {
    AgentReason.CHECKPOINT_UNNAMED: (
        "The pod carries a checkpoint id, but nothing says which manifest may be restored.",
        f"Take the id out of the pod template and opt in with label {keys.LABEL_RESTORE}.",
    ),
    AgentReason.CHECKPOINT_NOT_FOUND: (
        "The DynamoCheckpoint was deleted between the pod's admission and its start.",
        "Create it again, or take the opt-in off.",
    ),
    AgentReason.CHECKPOINT_NOT_READY: (
        "The DynamoCheckpoint stopped being Ready between the pod's admission and its start.",
        "`snapshotctl describe NAME` says why; pods created once it is Ready are restored.",
    ),
    AgentReason.CHECKPOINT_CHANGED: ("The DynamoCheckpoint now names another artifact.", _POD),
    AgentReason.DIGEST_UNKNOWN: ("The DynamoCheckpoint names no manifest that could be trusted.", _CAPTURE_AGAIN),
    AgentReason.ID_INVALID: (
        "The id or version on the pod cannot be one.",
        "Correct it where it comes from; the webhook writes none such.",
    ),
    AgentReason.TARGETS_INVALID: (
        "The pod lacks a container that is named as target.",
        f"Correct annotation {keys.ANN_TARGET_CONTAINERS}, or spec.job.targetContainerName of the DynamoCheckpoint.",
    ),
    AgentReason.STORAGE_PATH: (
        "The storage path on the pod is not a clean absolute path.",
        "Correct storage.pvc.basePath of the chart, or take the annotation off the pod template.",
    ),
    AgentReason.STORAGE_TYPE: (
        "The pod names a store that this version does not serve.",
        f"Take annotation {keys.ANN_STORAGE_TYPE} off the pod template.",
    ),
    AgentReason.WORKER_EXITED: (
        "The worker ended before it was captured.",
        "Read its log with the command in the message; a worker must stay up until its capture is done.",
    ),
    AgentReason.STANDBY_NOT_UP: (
        "No snapshot-standby waited in the container.",
        "Build the placeholder image again, and let the webhook shape the pod.",
    ),
    AgentReason.ALREADY_STARTED: (
        "The container started by itself before an agent could claim it.",
        f"Look at the agent on that node: {_AGENT}.",
    ),
    AgentReason.CLAIM_GONE: (
        "Standby stopped waiting while it was being claimed.",
        "Nothing to do if it is rare; else look whether the node is overloaded.",
    ),
    AgentReason.CLAIM_TAKEN: (
        "Another agent holds the container.",
        "Look whether two releases serve the same namespace.",
    ),
    AgentReason.AGENT_DIED: (
        "An agent ended in the middle of the work.",
        "Look why: `kubectl describe pod` of the agent, most often its memory limit.",
    ),
    AgentReason.NO_WORKER: ("The worker ended at the moment of capture.", "Read the container's log."),
    AgentReason.TERMINAL: (
        "The container has a terminal or an attached input, which cannot be captured.",
        "Set tty: false and stdin: false.",
    ),
    AgentReason.ARTIFACT_MISSING: ("The artifact is not in the store.", _CAPTURE_AGAIN),
    AgentReason.ARTIFACT_UNREADABLE: ("The artifact is there but cannot be read.", "Look at the volume."),
    AgentReason.ARTIFACT_CORRUPT: (
        "A file of the artifact is not what its manifest says.",
        _CAPTURE_AGAIN + " Look at the volume's health.",
    ),
    AgentReason.ARTIFACT_EXISTS: (
        "An artifact of that id and version exists already and is never overwritten.",
        f"Take it over with `snapshotctl adopt NAME --version VERSION`, or {_RAISE}.",
    ),
    AgentReason.MANIFEST_UNREADABLE: ("The artifact's manifest cannot be read.", _CAPTURE_AGAIN),
    AgentReason.MANIFEST_DIGEST: (
        "The artifact's manifest is not the one that the DynamoCheckpoint names.",
        _CAPTURE_AGAIN + " Find out who writes to the volume.",
    ),
    AgentReason.MANIFEST_FORMAT: ("The artifact was written by another version of this system.", _CAPTURE_AGAIN),
    AgentReason.STORAGE_MISSING: (
        "The checkpoint volume is not mounted.",
        "Look at the PersistentVolumeClaim and at the chart's storage values.",
    ),
    AgentReason.STORAGE_UNWRITABLE: (
        "The checkpoint volume could not be written, most often because it is full.",
        "Delete DynamoCheckpoints that are no longer needed, or enlarge the volume.",
    ),
    AgentReason.CPU_MISMATCH: (
        "The node's processor lacks features that the worker was captured with.",
        "Keep the pods on nodes of one kind, or capture on the oldest.",
    ),
    AgentReason.CRIU_MISMATCH: ("The artifact was captured with a newer CRIU than this agent's.", "Update the agent."),
    AgentReason.WIDER_RIGHTS: (
        "The captured worker had rights that the pod does not give.",
        "Make the security contexts of capture and restore pods alike.",
    ),
    AgentReason.MOUNTS_MISSING: (
        "The worker uses files on a volume that the pod does not mount at the same path.",
        "Mount the same volumes as in the captured template.",
    ),
    AgentReason.PIDS_TAKEN: (
        "Process ids of the worker are in use in the container.",
        "Take out of the container what runs there before the worker.",
    ),
    AgentReason.VOLUME_TOO_LARGE: (
        "A memory or scratch volume holds more than a capture takes along.",
        "Keep such data on a persistent volume or in the image.",
    ),
    AgentReason.OVERLAY_UNSUPPORTED: (
        "The container runtime's overlay uses redirect_dir or metacopy.",
        "Turn both off for the runtime.",
    ),
    AgentReason.ROOTFS_UNREADABLE: (
        "The container's changed files could not be read on the node.",
        "Look whether the runtime uses another snapshotter than overlayfs.",
    ),
    AgentReason.IMAGE_UNREADABLE: (
        "What the container's image runs could not be determined.",
        "Give the container a command in the pod template.",
    ),
    AgentReason.FILES_FAILED: (
        "The worker's files could not be put back into the container.",
        "Look whether its file system is read-only or full; the message says which file.",
    ),
    AgentReason.TREE_MISSING: (
        "CRIU ended well but the worker is not there.",
        "Look at the agent's log and report it.",
    ),
    AgentReason.DUMP_FAILED: (
        "CRIU could not capture the worker.",
        "The message has its first errors; open GPU devices, io_uring and unusual sockets are common causes.",
    ),
    AgentReason.RESTORE_FAILED: (
        "CRIU could not restore the worker.",
        _CAPTURE_AGAIN + " Report it if that does not help.",
    ),
    AgentReason.CRIU_MISSING: (
        "CRIU does not run on the node.",
        "Use an agent image that is whole and made for the node's architecture.",
    ),
    AgentReason.CRIU_TOO_OLD: ("The agent's CRIU is too old.", "Use the agent image of this release."),
    AgentReason.GPU_MISSING: (
        "The node shows the agent no CUDA driver or no device.",
        "Check the node's driver, and that the agent's pod sees it.",
    ),
    AgentReason.GPU_UNSUPPORTED: (
        "The driver cannot checkpoint or restore this process.",
        "Memory shared between GPUs is the usual cause: docs/reasons.md lists the settings that avoid it.",
    ),
    AgentReason.GPU_MEMORY: (
        "The device has too little free memory for the worker.",
        "See what else runs on that GPU.",
    ),
    AgentReason.GPU_BUSY: (
        "The driver did not answer in time; kernels of the worker were still running.",
        "Capture the worker when it is idle, or allow more time.",
    ),
    AgentReason.GPU_FAILED: (
        "A call of the CUDA driver failed.",
        "The message names the call and the driver's error.",
    ),
    AgentReason.GPU_MISMATCH: (
        "The pod's GPUs or the node's driver are not those of the capture.",
        "Keep these pods on nodes with the same GPU model and driver, or capture again.",
    ),
    AgentReason.MEMORY_LIMIT: (
        "The container's memory limit cannot hold the worker with its device memory.",
        "Raise resources.limits.memory by what the message says.",
    ),
    AgentReason.INTERNAL_ERROR: (
        "An unexpected error.",
        "The agent's log has the trace; please report it.",
    ),
}
_GATES: Final[Mapping[str, tuple[str, str]]] = {
    GateEnd.CHECKPOINT_READY: ("The pod was let go because its checkpoint is Ready.", NOTHING),
    GateEnd.CHECKPOINT_FAILED: ("The pod was let go because its checkpoint failed; it starts cold.", _READ),
    GateEnd.CHECKPOINT_DELETED: (
        "The pod was let go because its checkpoint was deleted; it starts cold.",
        "Create the checkpoint again, or name another.",
    ),
    GateEnd.WAIT_TIMEOUT: (
        "The pod was let go because its checkpoint took longer than waitTimeout; it starts cold.",
        "`snapshotctl describe NAME` says what it waits for; raise waitTimeout if the capture needs longer.",
    ),
    GateEnd.VOLUME_CLAIM_UNAVAILABLE: (
        "The pod was let go, but it cannot start: the volume claim that it mounts is missing or going.",
        "Make the claim again, with its old volume if that holds artifacts; or delete the pod: the next starts cold.",
    ),
    GateEnd.UNINSTALLED: (
        "The pod was let go because the release that held it was uninstalled; it starts cold.",
        "Install the release again and create the pod again, or take the label off its template.",
    ),
}
# The page has both lists; of two equal headings the second gets a number.
_TWICE: Final = {code: "-1" for code in _AGENT_REASONS if code in _ADMISSION}

ADMISSION: Final[Mapping[str, Remedy]] = _page(REASONS_PAGE, _ADMISSION, {})
"""By ``Admission``."""
AGENT: Final[Mapping[str, Remedy]] = _page(REASONS_PAGE, _AGENT_REASONS, _TWICE)
"""By ``AgentReason``."""
GATE: Final[Mapping[str, Remedy]] = {
    code: Remedy(meaning, remedy, f"{REASONS_PAGE}#how-a-held-pod-was-let-go")
    for code, (meaning, remedy) in _GATES.items()
}
"""By ``GateEnd``."""
