"""Nodes and containers that an artifact cannot be restored in."""

from __future__ import annotations

from typing import Final

from contract.api import keys
from contract.api.states import AgentReason
from contract.remedies.agent.words import BYPASS, CAPTURE_AGAIN, SECTION
from contract.remedies.registry import Reason

PLACES: Final = (
    Reason(
        SECTION,
        AgentReason.ARCHITECTURE_MISMATCH,
        "The node's architecture is not that of the capture.",
        "Give the pods a node selector on `kubernetes.io/arch`, or capture on this architecture.",
    ),
    Reason(
        SECTION,
        AgentReason.CPU_MISMATCH,
        "The node's processor lacks features that the worker was captured with.",
        "Keep the pods on nodes of one kind, or capture on the oldest.",
        BYPASS,
    ),
    Reason(
        SECTION,
        AgentReason.KERNEL_MISMATCH,
        "The node's kernel is older than that of the capture.",
        "Update the node, or capture on the oldest kernel of the pool.",
        f"Major and minor number are compared, not the patch level. {BYPASS}",
    ),
    Reason(
        SECTION,
        AgentReason.CRIU_MISMATCH,
        "The artifact was captured with a newer CRIU than this agent's.",
        "Update the agent.",
    ),
    Reason(
        SECTION,
        AgentReason.IMAGE_MISMATCH,
        "The container runs another image than the captured one, though its name may be the same.",
        CAPTURE_AGAIN + " Name images by digest, so that a tag cannot move below a checkpoint.",
        BYPASS,
    ),
    Reason(
        SECTION,
        AgentReason.CPU_LIMIT,
        "The container's CPU limit is lower than that of the captured one.",
        "Give the pods the captured template's `resources.limits.cpu`, or capture with the lower one.",
        f"A worker sizes its pools of threads when it starts. {BYPASS}",
    ),
    Reason(
        SECTION,
        AgentReason.HUGE_PAGES,
        "The worker has huge pages, and the node has fewer left than it needs.",
        "Request them (`hugepages-2Mi` in `resources.limits`), so that pods run on nodes that have some, and see who "
        "else uses those of the node.",
        "Huge pages (hugetlb) are set aside when a node starts. Nothing was touched. At a proof it is the message of "
        f"[`{AgentReason.PROOF_FAILED}`](#{AgentReason.PROOF_FAILED}).",
    ),
    Reason(
        SECTION,
        AgentReason.SYSV_IPC_TAKEN,
        "The pod has a System V object with an id or a key that an object of the worker had, or a POSIX message queue "
        "of the same name.",
        "Do not make such objects in other containers of the pod, or before the worker in its own.",
        "The ids are in the worker's memory. They belong to the pod's IPC namespace, which outlives a container: what "
        "a worker made after its restore is there when its container starts again. What the restore itself had made "
        "is taken away first. Nothing of the pod's was changed.",
    ),
    Reason(
        SECTION,
        AgentReason.BYPASS_INVALID,
        "The pod asks to bypass a check that does not exist or cannot be bypassed.",
        f"Correct annotation `{keys.ANN_BYPASS}`; the message lists the ids that it may hold.",
    ),
    Reason(
        SECTION,
        AgentReason.WIDER_RIGHTS,
        "The captured worker had a user, capability or freedom that the pod does not give.",
        "Make the security contexts of capture and restore pods alike.",
        "An artifact never brings rights along.",
    ),
    Reason(
        SECTION,
        AgentReason.IMAGES_WIDER,
        "A process of the worker has, or would get from CRIU's images, more than the container's first process: "
        "capabilities, users or groups, limits, or a weaker sandbox.",
        "At a capture, run no program with file capabilities or a set-user-id bit. At a restore, capture again on a "
        "node with the same runtime and configuration; if files of the store may have been changed, treat it as a "
        "break-in.",
        "Compared before a worker is frozen, before CRIU restores, and before the restored processes run. A seccomp "
        "filter may differ from the new container's if it is proved to let nothing more through: a newer runtime whose "
        "profile allows more calls restores older checkpoints, and their workers keep their filter. A profile that "
        "allows less than at the capture needs a new one.",
    ),
    Reason(
        SECTION,
        AgentReason.MOUNTS_MISSING,
        "The worker uses files on a volume that the pod does not mount at the same path.",
        "Mount the same volumes as in the captured template.",
    ),
    Reason(
        SECTION,
        AgentReason.PIDS_TAKEN,
        "Process ids of the worker are in use in the container.",
        "Take out of the container what runs there before the worker.",
    ),
)
