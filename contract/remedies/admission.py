"""What admission's codes mean: first the two of pods that restore, then all others in the order of the checks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from contract.api import keys
from contract.api.states import Admission
from contract.pods.parking import SHARING, SHARING_LABEL, WHOLE_GPU
from contract.remedies.registry import REASONS_PAGE, Origin, Reason, Section

_SECTION: Final = Section(
    REASONS_PAGE,
    Origin(
        "the webhook",
        "on the pod in annotation `nvidia.com/snapshot-admission`, and in an Event of the pod; a Warning is on its "
        "owner as well",
    ),
)

ADMISSION_REASONS: Final = (
    Reason(
        _SECTION,
        Admission.RESTORE_SHAPED,
        "The pod restores from its checkpoint.",
        (
            "Renew in the worker what each replica needs for itself, random generators above all: `snapshot_sdk` does "
            "it (docs/after-a-restore.md)."
        ),
        (
            f"Annotation `{keys.ANN_CHECKPOINT}` names the DynamoCheckpoint. If the worker starts cold all the same, "
            f"its first log line and `{keys.ANN_RESTORE_STATUS_PREFIX}<container>` say why."
        ),
    ),
    Reason(
        _SECTION,
        Admission.HELD,
        "The pod waits, unscheduled, until its checkpoint is Ready.",
        ("Nothing to do: it is released when the checkpoint is Ready, fails or is deleted, or after `waitTimeout`."),
        (
            f"The pod is to wait (`WaitForCheckpoint`): it is shaped for restore, and the scheduling gate "
            f"`{keys.SCHEDULING_GATE}` keeps it from its node. When the gate is lifted, annotation "
            f"`{keys.ANN_GATE}` says why. A pod that is released without a checkpoint starts cold. "
            "A held pod can be released only as it was shaped: in a stock image its container must have a `command` "
            "(else it is not held and starts cold), and by name such an image needs `placeholder.mode: inject`. "
            "To start it at once, take the gate off with `kubectl edit pod`; to stop waiting, set the annotation "
            f"`{keys.ANN_STARTUP_POLICY}: Immediate` on the pod template."
        ),
    ),
    Reason(
        _SECTION,
        Admission.CAPTURABLE,
        "The pod starts cold, in a shape in which it can be captured while it runs.",
        (
            "Have the worker ask for its capture (`snapshot_sdk.checkpoint()`, docs/running-workers.md), or run "
            "`snapshotctl checkpoint --pod POD`; pods of the same template are restored from then on."
        ),
        (
            f'It has the label `{keys.LABEL_TRIGGER}: "true"`, to which admission adds '
            f"`{keys.LABEL_RESTORE}: {keys.RESTORE_AUTO}`, and there is no artifact of its template yet; no capture "
            "Job is made. With podMount it changes nothing: a Job captures the worker."
        ),
    ),
    Reason(
        _SECTION,
        Admission.PLACEHOLDER,
        "The pod waits until a checkpoint is restored into it.",
        (
            "Name the checkpoint when you want it: `snapshotctl restore --pod POD --checkpoint-id ID` "
            "(docs/placeholders.md)."
        ),
        (
            f"It has the annotation `{keys.ANN_STANDBY}: {keys.STANDBY_WAITS}`, as `snapshotctl placeholder` writes "
            "it. Its container runs and is not ready; it waits without a limit, and does not start its own command "
            "unless a restore fails."
        ),
    ),
    Reason(
        _SECTION,
        Admission.NOT_A_CREATE,
        "Only the creation of pods is looked at; running pods are never changed.",
        "Delete the pod and let its owner create a new one if it is to be restored.",
        origin=Origin("no process, as the API server asks about nothing else", "in `snapshotctl admit`"),
    ),
    Reason(
        _SECTION,
        Admission.CHECKPOINT_DISABLED,
        "Checkpoints are switched off in this release: `checkpoint.enabled` is false.",
        "Set it to true with `helm upgrade`.",
    ),
    Reason(
        _SECTION,
        Admission.NAMESPACE_EXCLUDED,
        "The release does not serve the pod's namespace.",
        (
            "Take it off `webhook.excludedNamespaces`, widen `rbac.namespaceRestricted` or "
            "`webhook.namespaceSelector`, or run the worker where the release serves."
        ),
        (
            "The namespace is `kube-system` or one of `webhook.excludedNamespaces`. `snapshotctl why` also says this "
            "of pods that the release is never asked about: another namespace than the release's while "
            "`rbac.namespaceRestricted=true`, or one outside `webhook.namespaceSelector`."
        ),
    ),
    Reason(
        _SECTION,
        Admission.ALREADY_SHAPED,
        "The pod carries the labels of a capture or restore pod already, so it is left as it is.",
        f"Remove labels `{keys.LABEL_CHECKPOINT_ID}` and `{keys.LABEL_IS_SOURCE}` from the pod template.",
        (
            "The labels were probably copied from a running pod. When the API server asks a second time about a pod "
            "that was just shaped, this is the normal answer, and the annotation stays `restore-shaped`, `held` or "
            "`placeholder`."
        ),
    ),
    Reason(
        _SECTION,
        Admission.NOT_OPTED_IN,
        "The pod did not ask to be restored.",
        (
            f"Add label `{keys.LABEL_RESTORE}: {keys.RESTORE_AUTO}` to the pod template, or "
            f"`{keys.LABEL_RESTORE}: {keys.RESTORE_BY_NAME}` and annotation `{keys.ANN_CHECKPOINT_NAME}`."
        ),
        (
            f"It has neither the label `{keys.LABEL_RESTORE}` with one of these values nor the annotation "
            f'`{keys.ANN_RESTORE_CANDIDATE}: "true"`. Such pods are never changed, so they do not carry this code.'
        ),
        Origin("no process", "in `snapshotctl why` and `snapshotctl admit`"),
    ),
    Reason(
        _SECTION,
        Admission.STANDBY_INVALID,
        f"Annotation `{keys.ANN_STANDBY}` does not make a placeholder of this pod, nor a parked worker.",
        (
            f"Write `{keys.ANN_STANDBY}: {keys.STANDBY_WAITS}` together with label `{keys.LABEL_RESTORE}: "
            f"{keys.RESTORE_BY_NAME}`, or `{keys.STANDBY_PARKS}`, or take the annotation out of the pod template."
        ),
        "An automatic pod has a checkpoint of its own template, so it cannot wait for one that is named later.",
    ),
    Reason(
        _SECTION,
        Admission.CHECKPOINT_NAME_MISSING,
        "The pod asked for restore without saying from what.",
        f"Add annotation `{keys.ANN_CHECKPOINT_NAME}` with the name of a DynamoCheckpoint of the same namespace.",
    ),
    Reason(
        _SECTION,
        Admission.NOT_OPERATOR_STAMPED,
        "The pod is a restore candidate but no worker of a graph deployment.",
        f"Use label `{keys.LABEL_RESTORE}: {keys.RESTORE_BY_NAME}` in place of the candidate annotation.",
        (
            f"The annotation `{keys.ANN_RESTORE_CANDIDATE}` is meant for the worker pods of a graph deployment, which "
            f"carry the labels {', '.join(f'`{key}`' for key in keys.GRAPH_LABELS[:-1])} and "
            f"`{keys.GRAPH_LABELS[-1]}`; one of them is missing or empty."
        ),
    ),
    Reason(
        _SECTION,
        Admission.OS_UNSUPPORTED,
        "The pod is not for Linux, so it is left as it is.",
        f"Take label `{keys.LABEL_RESTORE}` out of the pod template; only Linux workers can be captured and restored.",
        (
            "Its `os.name`, node selector, required node affinity or `windowsOptions` says so; the message names the "
            "field. It is neither held nor given a command of ours."
        ),
    ),
    Reason(
        _SECTION,
        Admission.TARGETS_INVALID,
        "The containers to restore cannot be determined.",
        f"Set annotation `{keys.ANN_TARGET_CONTAINERS}` to a comma-separated list of container names of the pod.",
        (
            "The annotation names a container that the pod lacks, or one twice, or one with more than 33 characters; "
            "or it is absent and the pod has several containers: none named `main`, none marked by "
            "`kubectl.kubernetes.io/default-container`, and not just one with a GPU."
        ),
    ),
    Reason(
        _SECTION,
        Admission.POD_UNSUPPORTED,
        "The pod cannot be restored as it is written.",
        "Correct the field that the message names.",
        (
            "It shares a namespace of the node or between its containers (`hostPID`, `hostNetwork`, `hostIPC`, "
            "`shareProcessNamespace`), has users of its own (`hostUsers: false`), runs in a sandbox "
            "(a runtime class of Kata Containers, gVisor, Firecracker or WebAssembly, by its name), or another volume "
            "is mounted where ours belongs."
        ),
    ),
    Reason(
        _SECTION,
        Admission.ACCELERATOR_UNSUPPORTED,
        "The container asks for a device whose state is not captured.",
        f"Take label `{keys.LABEL_RESTORE}` off the pod template, or request whole NVIDIA GPUs (`nvidia.com/gpu`).",
        (
            "Refused by the name of the resource: GPUs of AMD and Intel, Gaudi, Neuron, TPUs, Ascend, and MIG devices. "
            "[The page on GPUs](gpu.md#devices-that-are-refused-by-name) has all names. Of a claim for devices "
            "(`resource.k8s.io`) admission sees the name alone; the controller reads its template, and the checkpoint "
            "then says `AcceleratorUnsupported`."
        ),
    ),
    Reason(
        _SECTION,
        Admission.PER_POD_IDENTITY,
        "The worker takes its name, address or uid from the pod, which a restored process would have from another.",
        (
            "Take out the field that the message names. If the worker renews its identity after a restore, set "
            f"annotation `{keys.ANN_IDENTITY}: {keys.IDENTITY_REFRESHED}` on the pod template."
        ),
        (
            "The identity is a name, uid, address, node or index, or that of a member of a StatefulSet; all replicas "
            "restored from one checkpoint would keep that of the captured one. Only the captured container counts: all "
            "others start in the new pod. If another webhook added the field (Datadog's adds `DD_ENTITY_ID`), have it "
            "leave the workload out, or set the annotation."
        ),
    ),
    Reason(
        _SECTION,
        Admission.NO_READY_SIGNAL,
        "The target has neither a startup nor a readiness probe, so nothing says when it may be captured.",
        (
            "Add a readiness probe to the target container, or create a DynamoCheckpoint by hand with "
            "`readySignal: File`."
        ),
        f"Only pods with label `{keys.LABEL_RESTORE}: {keys.RESTORE_AUTO}` need one.",
    ),
    Reason(
        _SECTION,
        Admission.CHECKPOINT_NOT_FOUND,
        "No DynamoCheckpoint of that name exists in the pod's namespace.",
        "Create it, or correct the name; `snapshotctl get` lists them.",
    ),
    Reason(
        _SECTION,
        Admission.CHECKPOINT_REQUESTED,
        "The pod starts cold and its checkpoint is being asked for: it is made from this very workload.",
        "Nothing to do: later pods restore once it is Ready. `snapshotctl get` shows how far it is.",
        (
            f"The pod has the label `{keys.LABEL_RESTORE}: {keys.RESTORE_AUTO}`, and no checkpoint of its template "
            f"exists yet; annotation `{keys.ANN_CHECKPOINT}` has the name of the one that the controller makes. "
            "If the pod was to wait (`WaitForCheckpoint`), the warning says why it could not. Either its image is no "
            "known placeholder and its container has no `command`: write the command into the pod template, or name "
            "the placeholder in `placeholder.images`. Or the volume claim that it would mount "
            "cannot be mounted, see [volume-claim-unavailable](#volume-claim-unavailable)."
        ),
    ),
    Reason(
        _SECTION,
        Admission.CHECKPOINT_DELETING,
        "The checkpoint is being deleted.",
        "Wait until it no longer exists, then create a new one; or name another.",
        "If it is automatic, pods created after that make a new one by themselves.",
    ),
    Reason(
        _SECTION,
        Admission.CHECKPOINT_FAILED,
        "The checkpoint could not be made; its message says why.",
        (
            f"Correct the cause, then capture again: set annotation `{keys.ANN_ARTIFACT_VERSION}` of the "
            "DynamoCheckpoint to a new value."
        ),
        (
            "A checkpoint with `spec.gpuMemoryService.enabled` has this code too, although it may be Ready: no restore "
            "supports it."
        ),
    ),
    Reason(
        _SECTION,
        Admission.RESTORES_FAILING,
        "The last restores of the checkpoint failed for one reason, so the pod starts cold at once.",
        (
            "`snapshotctl describe NAME` shows the reason in condition `RestoresFailing`; correct it, then capture "
            f"again: set annotation `{keys.ANN_ARTIFACT_VERSION}` of the DynamoCheckpoint to a new value."
        ),
        (
            "`failingRestores.inARow` restores (3) failed alike and none succeeded between them. Without a new capture "
            "restores are tried again after `failingRestores.pause` (1 h); the condition says when."
        ),
    ),
    Reason(
        _SECTION,
        Admission.CHECKPOINT_NOT_READY,
        "The checkpoint is still being made, so the pod starts cold.",
        (
            "Wait until it is Ready; pods created from then on are restored. `snapshotctl describe NAME` says what it "
            "waits for."
        ),
        ("If its capture was cancelled because no pod requested it, this pod restarts it, and the message says so."),
    ),
    Reason(
        _SECTION,
        Admission.CHECKPOINT_ID_UNAVAILABLE,
        "The checkpoint has no usable id or version.",
        "Correct its id label or version annotation, or look at the controller's log if you never set them.",
        (
            f"`status.checkpointID`, the label `{keys.LABEL_CHECKPOINT_ID}` or the annotation "
            f"`{keys.ANN_ARTIFACT_VERSION}` is not made of lower-case letters, digits and hyphens."
        ),
    ),
    Reason(
        _SECTION,
        Admission.STORAGE_UNAVAILABLE,
        "The chart's `storage` values contradict each other.",
        "Correct the value that the message names with `helm upgrade`.",
    ),
    Reason(
        _SECTION,
        Admission.PARKED_EXCLUSIVE_GPU,
        "The worker is to be parked, and its pod would keep a whole GPU that it does not use.",
        (
            "Share the device: a ResourceClaim that several pods name, `nvidia.com/gpu.shared`, or `nodeSelector` "
            f"`{SHARING_LABEL}: {SHARING[0]}`; or take annotation `{keys.ANN_STANDBY}` out of the pod template."
        ),
        (
            f"It has annotation `{keys.ANN_STANDBY}: {keys.STANDBY_PARKS}` and asks for `{WHOLE_GPU}`, which the "
            "device plugin gives to one pod. Time slices have the same name unless they are renamed, so the pod says "
            "by its `nodeSelector` that its nodes have them ([parked workers](parked.md#devices))."
        ),
    ),
    Reason(
        _SECTION,
        Admission.ARCHITECTURE_MISMATCH,
        "The pod asks for nodes of another architecture than the one that was captured.",
        (
            "Restore from a checkpoint of the pod's own architecture, or correct the field that the message names; "
            "`status.image.architecture` says what was captured."
        ),
        (
            "The node selector or the required node affinity on `kubernetes.io/arch` rules it out. Automatic pods "
            "that ask for one architecture have a checkpoint of their own, so this is about restores by name. A pod "
            "that asks for none and is scheduled to another starts cold there, under the same code."
        ),
    ),
    Reason(
        _SECTION,
        Admission.IMAGE_MISMATCH,
        "The container's image is not the one that was captured.",
        (
            "Use the captured image, map the runtime image to it with `placeholder.images`, or accept it with "
            f"annotation `{keys.ANN_IMAGE_POLICY}: {keys.IMAGE_POLICY_CHECKPOINT}`."
        ),
    ),
    Reason(
        _SECTION,
        Admission.BYPASS_INVALID,
        f"The annotation `{keys.ANN_BYPASS}` names a check that does not exist or cannot be bypassed.",
        "Correct the annotation in the pod template; the message has the checks that can be bypassed.",
        "No restore would begin with it, so the pod starts cold at once. docs/compatibility.md has the whole list.",
    ),
    Reason(
        _SECTION,
        Admission.VOLUME_CLAIM_UNAVAILABLE,
        "The volume claim that a restored pod mounts is missing or being deleted, so the pod starts cold without it.",
        "Make the claim again, with its old volume if that holds artifacts; pods created after that restore.",
        (
            "With `storage.accessMode: podMount` restored pods mount the claim `storage.pvc.name` of their namespace, "
            "and it does not exist, is being deleted or lost its volume: a pod that mounted it would never start, so "
            "this one is left as it is. If there are no artifacts yet, `storage.pvc.create=true` lets the controller "
            "make the claim. Pods created after that are restored, or held, again. "
            "The webhook watches the claims and knows at once. If its account may not list them (roles of an older "
            "release), it uses the checkpoint's condition `StorageReady`, which the controller writes a moment later."
        ),
    ),
    Reason(
        _SECTION,
        Admission.ENTRYPOINT_UNKNOWN,
        "The container has no `command`, and what its image would run is not known.",
        (
            "Write `command` into the pod template, or capture again so that the agent notes the image's entrypoint "
            "in `status.image`."
        ),
        "The tools are injected into a stock image, so its entrypoint has to be known: it runs in a cold start.",
    ),
    Reason(
        _SECTION,
        Admission.WEBHOOK_UNREACHABLE,
        "The webhook was not reached when the pod was created, so it starts cold.",
        (
            "Look at the webhook's pods: `kubectl get pods -A -l app.kubernetes.io/component=webhook`; then delete the "
            "pod so that its owner creates it again."
        ),
        (
            f"A pod with label `{keys.LABEL_RESTORE}: {keys.RESTORE_AUTO}` asks for its checkpoint all the same: the "
            "controller writes on it what the webhook would have, and the code becomes `checkpoint-requested`; an "
            "Event keeps this one. "
            "In clusters without MutatingAdmissionPolicy such a pod has no annotation; then the controller does so "
            "only if the release serves its own namespace alone, without `webhook.namespaceSelector` and "
            "`webhook.objectSelector`, because a missed pod and one that is not to be seen look the same."
        ),
        Origin("an admission policy of the API server", "as the webhook's codes are"),
    ),
)

ADMISSION: Final[Mapping[str, Reason]] = {reason.code: reason for reason in ADMISSION_REASONS}
"""By ``Admission``."""
