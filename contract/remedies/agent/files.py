"""Files that cannot be captured or put back."""

from __future__ import annotations

from typing import Final

from contract.api.states import AgentReason
from contract.remedies.agent.words import CAPTURE_AGAIN, SECTION
from contract.remedies.registry import Reason

FILES: Final = (
    Reason(
        SECTION,
        AgentReason.VOLUME_TOO_LARGE,
        "An emptyDir, or shared memory, holds more than a capture takes along.",
        "Keep such data on a persistent volume or in the image, name what a restored worker does not need in "
        "`config.overlay.exclusions`, or raise `capture.emptyDirLimit`.",
        "The message names the volume and its largest file, or a folder that is more than 500 folders deep or of which "
        "the path has more than 3800 bytes. Nothing was touched; the capture is not tried again by itself.",
    ),
    Reason(
        SECTION,
        AgentReason.VOLUME_FILE_REPLACED,
        "The worker has a file of a ConfigMap, Secret, projected or downward volume open that kubelet has replaced "
        "since.",
        "Capture a worker that started after the change: let the checkpoint's next attempt run.",
        "The file is only in the worker's hands, and no other pod has it. Nothing was touched.",
    ),
    Reason(
        SECTION,
        AgentReason.VOLUME_FILE_CHANGED,
        "The worker has a file open that is another in this pod: of a ConfigMap, Secret, projected or downward volume, "
        "of an emptyDir if an init container wrote it, or /etc/hosts and the like.",
        CAPTURE_AGAIN + " Or have the worker close the file once it has read it.",
        "A worker that goes on reading a file in the middle, or has it mapped, would mix old and new. Files that are "
        "closed may change: the worker sees those of its new pod. Nothing was touched.",
    ),
    Reason(
        SECTION,
        AgentReason.WEIGHTS_CHANGED,
        "A file of the model that some of the artifact's device memory is read from is not in this pod, cannot be read "
        "by the worker, or is another than at the capture.",
        CAPTURE_AGAIN + " Or give the pod the volume with the model that was captured. `capture.weights=Stored` has "
        "later captures store all device memory.",
        "The artifact stores no bytes that a safetensors file on the worker's volumes has. Nothing was touched, unless "
        "the file was changed while it was read: then the restored processes were ended.",
    ),
    Reason(
        SECTION,
        AgentReason.ROOTFS_TOO_LARGE,
        "The worker changed more in its image's files than a capture takes along.",
        "Keep such data on a persistent volume or in the image, name what a restored worker does not need in "
        "`config.overlay.exclusions`, or raise `capture.rootfsLimit`.",
        "The message names the largest file, or a folder that is more than 500 folders deep or of which the path has "
        "more than 3800 bytes. Nothing was touched; the capture is not tried again by itself.",
    ),
    Reason(
        SECTION,
        AgentReason.OVERLAY_UNSUPPORTED,
        "The container runtime's overlay uses `redirect_dir` or `metacopy`, whose changes cannot be read.",
        "Turn both off for the runtime.",
    ),
    Reason(
        SECTION,
        AgentReason.ROOTFS_UNREADABLE,
        "The container's changed files could not be read on the node; the message has the path.",
        "Look whether the runtime uses another snapshotter than overlayfs.",
    ),
    Reason(
        SECTION,
        AgentReason.FILES_FAILED,
        "The worker's files could not be read, or not be put back into the container.",
        "Look whether its file system is read-only or full; the message says which file.",
    ),
)
