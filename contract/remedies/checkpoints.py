"""What each reason of a DynamoCheckpoint's conditions and Events means."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from contract.api import keys
from contract.api.states import AgentReason, CheckpointReason
from contract.config.sections import UNSET_REGISTRY
from contract.remedies.agent import AGENT
from contract.remedies.registry import CHECKPOINT_PAGE, NOTHING, Origin, Reason, Section

_ORIGIN: Final = Origin(
    "the controller", "in conditions and Events of the DynamoCheckpoint, and in `snapshotctl describe`"
)
_PHASES: Final = Section(CHECKPOINT_PAGE, _ORIGIN, "Phases", "phases")
_BEFORE: Final = Section(CHECKPOINT_PAGE, _ORIGIN, "Before there is a Job", "before-there-is-a-job")
_STORAGE: Final = Section(CHECKPOINT_PAGE, _ORIGIN, "Storage", "storage")
_JOB: Final = Section(CHECKPOINT_PAGE, _ORIGIN, "The Job", "the-job")
_RUNNING: Final = Section(CHECKPOINT_PAGE, _ORIGIN, "A running pod", "a-running-pod")
_ADOPTION: Final = Section(CHECKPOINT_PAGE, _ORIGIN, "Adoption", "adoption")
_POD: Final = Section(CHECKPOINT_PAGE, _ORIGIN, "Its pod", "its-pod")
_DELETION: Final = Section(CHECKPOINT_PAGE, _ORIGIN, "Deletion", "deletion")
_NODES: Final = Section(
    CHECKPOINT_PAGE,
    _ORIGIN,
    "Nodes",
    "nodes",
    "Of condition `Compatible`, beside Ready: whether there are nodes on which a pod could be restored, by what their "
    "agents say of them. Its message says how many of how many. It is looked at again a minute after agents have "
    "started, ended or changed; what is bypassed for all nodes does not count. Limits, mounts and image are a pod's "
    "own affair and are compared only there.",
)
_PAGE_CACHE: Final = Section(CHECKPOINT_PAGE, _ORIGIN, "What a node can keep of it", "what-a-node-can-keep-of-it")
_RESTORES: Final = Section(CHECKPOINT_PAGE, _ORIGIN, "Its restores", "its-restores")
_RETENTION: Final = Section(CHECKPOINT_PAGE, _ORIGIN, "Retention", "retention")

_CAPTURE_HERE: Final = "Add nodes like the one of the capture, or capture again on one of these."
_MESSAGE: Final = "Do what the message says."
_ITSELF: Final = "It continues by itself once that is done."
_VERSION: Final = (
    f"Correct what the message names, then set annotation `{keys.ANN_ARTIFACT_VERSION}` to a new value to capture "
    "again."
)

CHECKPOINT_REASONS: Final = (
    Reason(
        _PHASES,
        CheckpointReason.PENDING,
        "Nothing blocks it; the next step is under way.",
        "Wait. If it stays, look at the controller: `kubectl get pods -A -l app.kubernetes.io/component=controller`.",
    ),
    Reason(
        _PHASES,
        CheckpointReason.CREATING,
        "The capture Job is at work.",
        "Wait; `snapshotctl describe NAME` shows its pods and Events.",
        f"`kubectl get pods -l {keys.LABEL_CHECKPOINT_ID}=ID` lists its pods too.",
    ),
    Reason(
        _PHASES,
        CheckpointReason.CHECKPOINT_READY,
        "The artifact is published and verified.",
        NOTHING,
        "It may be restored.",
    ),
    Reason(_PHASES, CheckpointReason.CHECKPOINT_FAILED, "The capture ended without an artifact.", _VERSION),
    Reason(_BEFORE, CheckpointReason.INVALID_ID, "The id label, or the identity, makes no usable id.", _MESSAGE),
    Reason(
        _BEFORE,
        CheckpointReason.DUPLICATE_ID,
        "Another checkpoint has the same id.",
        "Use that one, delete it, or give a new object another identity or id label. " + _ITSELF,
        "It is one of the same namespace or, with agentMount, of any: all share one volume.",
    ),
    Reason(
        _BEFORE,
        CheckpointReason.GMS_DISABLED,
        "GPU memory service together with snapshots is not supported.",
        "Remove `spec.gpuMemoryService`.",
    ),
    Reason(
        _BEFORE,
        CheckpointReason.ACCELERATOR_UNSUPPORTED,
        "The captured container asks for a device whose state is not captured.",
        "Request whole NVIDIA GPUs (`nvidia.com/gpu`) in the template, or delete the checkpoint.",
        "Another vendor's device or a MIG device, by a resource or by a claim; the message names it. [All "
        "names](gpu.md#devices-that-are-refused-by-name).",
    ),
    Reason(
        _BEFORE,
        CheckpointReason.CLAIM_TEMPLATE_MISSING,
        "The captured container claims devices by a ResourceClaimTemplate that does not exist.",
        f"Create it in the checkpoint's namespace, or correct the name in the template. {_ITSELF}",
        "The capture pod would stay without a node, with nothing to say why.",
    ),
    Reason(
        _BEFORE,
        CheckpointReason.TEMPLATE_ACCEPTED,
        "The API server accepts the Job made from the template.",
        NOTHING,
    ),
    Reason(
        _BEFORE,
        CheckpointReason.TEMPLATE_INVALID,
        "The API server does not accept the Job made from the template.",
        "Correct `spec.job.podTemplateSpec`; it is tried again when the spec changes.",
        "The message quotes the server's field path.",
    ),
    Reason(
        _BEFORE,
        CheckpointReason.JOB_FORBIDDEN,
        "A quota or a policy forbids the capture Job.",
        "Make room or ask for the right; it is tried again every 30 s.",
    ),
    Reason(
        _BEFORE,
        CheckpointReason.JOB_NOT_OURS,
        "A Job of that name exists and has another owner.",
        "Delete or rename that Job.",
    ),
    Reason(
        _STORAGE,
        CheckpointReason.STORAGE_INVALID,
        "The chart's `storage` values contradict each other.",
        "Correct the value that the message names with `helm upgrade`.",
    ),
    Reason(
        _STORAGE,
        CheckpointReason.AGENT_MOUNTS_STORAGE,
        "The agent brings the checkpoint volume.",
        NOTHING,
        "With agentMount there is nothing to check in the checkpoint's namespace.",
    ),
    Reason(_STORAGE, CheckpointReason.VOLUME_CLAIM_FOUND, "The volume claim is there.", NOTHING, "Only with podMount."),
    Reason(
        _STORAGE,
        CheckpointReason.VOLUME_CLAIM_CREATED,
        "The controller made the volume claim.",
        NOTHING,
        "Only with podMount.",
    ),
    Reason(
        _STORAGE,
        CheckpointReason.VOLUME_CLAIM_MISSING,
        "The volume claim is not there.",
        f"Create it, or set `storage.pvc.create=true`. {_ITSELF}",
        "Only with podMount, while `storage.pvc.create` is false.",
    ),
    Reason(
        _STORAGE,
        CheckpointReason.VOLUME_CLAIM_REFUSED,
        "The API server refused to make the volume claim.",
        _MESSAGE,
        "The message quotes it (quota, class, size).",
    ),
    Reason(
        _STORAGE,
        CheckpointReason.VOLUME_CLAIM_LOST,
        "The claim's volume no longer exists.",
        "Restore the volume or make a new claim.",
    ),
    Reason(
        _STORAGE,
        CheckpointReason.AGENT_MISSING,
        "No snapshot agent is installed that could mount the checkpoint volume.",
        f"Install the chart in the release's namespace, or restore its DaemonSet. {_ITSELF}",
        "With agentMount: no DaemonSet `app.kubernetes.io/component=snapshot-agent` is in the release's namespace.",
    ),
    Reason(
        _STORAGE,
        CheckpointReason.AGENT_NOT_READY,
        "No pod of the snapshot agent is ready, so nothing can be captured or restored.",
        "Look at the pods that the message names with `kubectl describe`; often the claim is not bound.",
        "Only with agentMount.",
    ),
    Reason(
        _STORAGE,
        CheckpointReason.AGENT_STORAGE_DIFFERS,
        "The agent mounts another claim, or at another path, than the chart's values say.",
        "Undo what was changed by hand with `helm upgrade`.",
        "With agentMount: its DaemonSet was edited by hand.",
    ),
    Reason(
        _STORAGE,
        CheckpointReason.STORAGE_CHANGED,
        "The artifact is where the installation's storage values pointed before.",
        (
            f"Set the values back, move the artifact, or set annotation `{keys.ANN_ARTIFACT_VERSION}` to a new value "
            "to capture again."
        ),
        "Pods look in the new place.",
    ),
    Reason(_JOB, CheckpointReason.JOB_CREATED, "The capture Job exists.", NOTHING),
    Reason(_JOB, CheckpointReason.JOB_DELETED, "The Job was deleted before it was done.", _VERSION),
    Reason(
        _JOB,
        CheckpointReason.JOB_SUCCEEDED,
        "The Job is complete and the agent has verified the artifact.",
        NOTHING,
    ),
    Reason(
        _JOB,
        CheckpointReason.JOB_FAILED,
        "The Job failed, or the agent said why it could not capture.",
        _VERSION,
        "A code in brackets is the agent's: `snapshotctl describe` and [reasons.md](reasons.md) have its remedy.",
    ),
    Reason(
        _JOB,
        CheckpointReason.VERIFICATION_FAILED,
        "The Job is complete, but no agent vouched for the artifact.",
        "Look whether the agent runs on that node, and at its log.",
    ),
    Reason(
        _JOB,
        CheckpointReason.RETRY_SCHEDULED,
        "A capture of an automatic or graph checkpoint failed, and the next attempt is due at a known time.",
        "Wait, or correct what the message names.",
        (
            "The message says when the next one starts, and why the last failed. Only the last attempt ends in "
            "`CheckpointFailed`."
        ),
    ),
    Reason(
        _JOB,
        CheckpointReason.WORKLOAD_GONE,
        "Its workload no longer exists and no pod names it, so the capture no longer waits for a node.",
        (
            "Nothing to do: the first new pod of the same template restarts the capture. Delete the DynamoCheckpoint "
            "if none will come."
        ),
        (
            "Only automatic and graph checkpoints have it, if their capture found no node and no pod named them for "
            "`automatic.unwantedGrace` (5 minutes). The capture Job was cancelled, so that no cluster autoscaler adds "
            "a node for it. The pod that restarts it is held meanwhile with `WaitForCheckpoint`, else it starts cold; "
            "later ones restore."
        ),
    ),
    Reason(
        _RUNNING,
        CheckpointReason.POD_CAPTURE_STARTED,
        "The pod of `spec.source` is captured while it runs; no Job is made.",
        "Wait; the agent of its node answers within seconds to minutes.",
    ),
    Reason(_RUNNING, CheckpointReason.POD_CAPTURED, "The running pod was captured and goes on.", NOTHING),
    Reason(
        _RUNNING,
        CheckpointReason.POD_CAPTURE_FAILED,
        "The running pod was not captured; it goes on as it was.",
        "Do what the message says, then ask again: `snapshotctl checkpoint --pod POD --name ANOTHER`.",
        "The message has the agent's own code; `snapshotctl preflight POD` shows beforehand what is in the way.",
    ),
    Reason(
        _RUNNING,
        CheckpointReason.POD_CAPTURE_NOT_REQUESTED,
        f"`{keys.ANN_ARTIFACT_VERSION}` asks for another version, and the pod of `spec.source` does not ask to be "
        "captured: the artifact is kept, and pods are restored from it as before.",
        "Run `snapshotctl checkpoint --pod POD --name ANOTHER`, or set the annotation back to the version that the "
        "message names.",
        "The moment of such a capture is its asker's, so the annotation alone captures nothing.",
    ),
    Reason(
        _RUNNING,
        CheckpointReason.SOURCE_POD_GONE,
        "The pod of `spec.source` ended, or another one has its name, before it was captured.",
        "Delete the DynamoCheckpoint and capture a pod that runs.",
    ),
    Reason(
        _ADOPTION,
        CheckpointReason.ADOPTION_RUNNING,
        "A Job looks at the artifact in storage.",
        "Wait.",
        f"It reads the artifact named by `{keys.ANN_ADOPT}` and compares every file with its manifest.",
    ),
    Reason(
        _ADOPTION,
        CheckpointReason.ADOPTION_BLOCKED,
        "The Job that is to look at the artifact in storage does not start.",
        f"{_MESSAGE} {_ITSELF}",
        "A quota or a policy refuses it, or no node takes its pod.",
    ),
    Reason(
        _ADOPTION,
        CheckpointReason.ADOPTED,
        "An artifact that was in storage already was verified and is this checkpoint's from now on.",
        NOTHING,
    ),
    Reason(
        _ADOPTION,
        CheckpointReason.ADOPTION_FAILED,
        "The artifact that was to be taken over is missing, partial, damaged or another checkpoint's.",
        (
            "Do what the message says: put the artifact in place and ask again, or set annotation "
            f"`{keys.ANN_ARTIFACT_VERSION}` to a new value to capture."
        ),
    ),
    Reason(_POD, CheckpointReason.SCHEDULED, "The capture pod has a node.", NOTHING),
    Reason(
        _POD,
        CheckpointReason.UNSCHEDULABLE,
        "No node takes the capture pod; the message has the scheduler's words.",
        "Free what the scheduler misses; the time does not count against the deadline.",
    ),
    Reason(
        _POD,
        CheckpointReason.POD_NOT_CREATED,
        "The Job cannot make its pod.",
        _MESSAGE,
        "The message quotes the API server (quota, admission).",
    ),
    Reason(
        _POD,
        CheckpointReason.CONTAINER_NOT_STARTED,
        "The container cannot start; often the image is not a placeholder image.",
        _MESSAGE,
        (
            "The message quotes the container runtime. For checkpoints by name and of graphs the image has to be a "
            "placeholder image, unless `placeholder.mode` is `inject`."
        ),
    ),
    Reason(
        _POD,
        CheckpointReason.IMAGE_NOT_PULLED,
        "The image cannot be pulled.",
        (
            f"Correct its name or the pull secret in the template; for an image of `{UNSET_REGISTRY}` set "
            "`daemonset.image.repository` and `controlPlane.image.repository`, or `global.imageRegistry`."
        ),
        f"An image of `{UNSET_REGISTRY}` means that no registry was named at installation.",
    ),
    Reason(
        _POD,
        CheckpointReason.NO_AGENT,
        "The worker is ready and no agent takes it up.",
        "Look whether the agent runs on that node, and at its log.",
    ),
    Reason(
        _NODES,
        CheckpointReason.NODES_COMPATIBLE,
        "At least one node could restore it.",
        NOTHING,
        "The message says of how many, and what the others lack: pods that are scheduled there start cold.",
    ),
    Reason(
        _NODES,
        CheckpointReason.NO_NODES,
        "No agent that is ready says what its node is.",
        "Look at the agents: `kubectl get pods -A -o wide -l " + f"{keys.LABEL_AGENT}={keys.LABEL_AGENT_VALUE}`.",
        "Agents of earlier releases say nothing.",
    ),
    *(
        Reason(
            _NODES,
            reason,
            f"No node could restore it; most lack {what}.",
            f"{_CAPTURE_HERE} What it was taken on is `status.source`.",
            f"Pods start cold as [`{code}`]({AGENT[code].link.removeprefix('docs/')}).",
        )
        for reason, what, code in (
            (CheckpointReason.ARCHITECTURE_MISMATCH, "its architecture", AgentReason.ARCHITECTURE_MISMATCH),
            (CheckpointReason.CPU_MISMATCH, "instruction sets of its processor", AgentReason.CPU_MISMATCH),
            (CheckpointReason.KERNEL_MISMATCH, "a kernel as new as its own", AgentReason.KERNEL_MISMATCH),
            (CheckpointReason.CRIU_MISMATCH, "a CRIU as new as its own", AgentReason.CRIU_MISMATCH),
            (CheckpointReason.GPU_MISMATCH, "its GPUs or driver", AgentReason.GPU_MISMATCH),
        )
    ),
    Reason(_DELETION, CheckpointReason.CLEANUP_RUNNING, "A Job removes the artifact.", "Wait."),
    Reason(_DELETION, CheckpointReason.CLEANUP_FAILED, "That Job failed and is tried again.", "Read its log."),
    Reason(
        _DELETION,
        CheckpointReason.CLEANUP_BLOCKED,
        "The artifact, or the object, cannot be removed.",
        _MESSAGE,
        "A quota or a policy forbids it, for the Job or for the object: the message names it.",
    ),
    Reason(_DELETION, CheckpointReason.ARTIFACT_REMOVED, "The artifact was removed.", NOTHING),
    Reason(
        _DELETION,
        CheckpointReason.ARTIFACT_KEPT,
        "The object was deleted, the artifact stays.",
        "Remove it from the volume if it is not needed.",
        (
            "It was made by hand, or another object uses it; the message says where it is and how large. "
            "[operating.md](operating.md#what-may-be-removed) says how to have it removed."
        ),
    ),
    Reason(
        _PAGE_CACHE,
        CheckpointReason.LARGER_THAN_PAGE_CACHE,
        "The artifact is larger than what a node keeps of artifacts in page cache, so every restore reads storage.",
        "Take `daemonset.resources.limits.memory` away, or raise it to what the artifacts that a node restores most "
        "have together and 1Gi for the agent itself; or leave it, if storage is fast enough.",
        "Page cache of what an agent reads counts for the agent. [operating.md]"
        "(operating.md#how-much-of-the-artifacts-a-node-keeps-in-memory) says what a higher limit means for the node.",
    ),
    Reason(
        _RETENTION,
        CheckpointReason.VERSION_REMOVED,
        "An older version was removed from storage, as retention says.",
        NOTHING,
        "It was beyond `keepVersions`, and no pod used it.",
    ),
    Reason(
        _RETENTION,
        CheckpointReason.CHECKPOINT_EXPIRED,
        "Retention deletes this checkpoint together with its artifacts.",
        NOTHING,
        (
            "It was unused for too long, superseded, or over the namespace's quota. A workload that still needs it "
            "makes it again."
        ),
    ),
    Reason(
        _RETENTION,
        CheckpointReason.RETENTION_DRY_RUN,
        "Retention would remove something; `retention.dryRun` keeps it from doing so.",
        "Set `retention.dryRun=false` once you agree.",
    ),
    Reason(
        _RETENTION,
        CheckpointReason.QUOTA_EXCEEDED,
        "The namespace's artifacts exceed `retention.namespaceQuota`, and what is left may not be removed.",
        "Delete checkpoints that are no longer needed, or raise the quota.",
        "All that is left is in use, newest, or made by hand.",
    ),
    Reason(
        _RESTORES,
        CheckpointReason.RESTORES_FAILING,
        "Restores failed for one reason again and again, so new pods start cold at once.",
        (
            "Look up the reason that the message names, correct it, and capture again with a new value of annotation "
            f"`{keys.ANN_ARTIFACT_VERSION}`; or wait until restores are tried again."
        ),
        (
            "`failingRestores.inARow` restores of the newest version failed alike, and none succeeded between them. "
            "Failures of which the pod, the agent or the node is the cause do not count. New pods have "
            "`restores-failing` for as long as the condition is True."
        ),
    ),
    Reason(
        _RESTORES,
        CheckpointReason.RESTORES_RESUMED,
        "The pause after failing restores is over: new pods are restored again.",
        NOTHING,
        "If as many fail again, the next pause begins. Earlier failures no longer count.",
    ),
)

CHECKPOINT: Final[Mapping[str, Reason]] = {reason.code: reason for reason in CHECKPOINT_REASONS}
"""By ``CheckpointReason``."""
