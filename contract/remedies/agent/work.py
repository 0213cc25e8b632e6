"""What went wrong while a worker was captured or restored."""

from __future__ import annotations

from typing import Final

from contract.api import keys
from contract.api.states import AgentReason
from contract.remedies.agent.words import CAPTURE_AGAIN, SECTION
from contract.remedies.registry import Reason

WORK: Final = (
    Reason(
        SECTION,
        AgentReason.TREE_MISSING,
        "CRIU ended well but the worker is not there.",
        "Look at the agent's log and report it.",
    ),
    Reason(
        SECTION,
        AgentReason.DUMP_FAILED,
        "CRIU could not capture the worker; the message has its first errors.",
        "Look for open GPU devices, io_uring and sockets of unusual kinds: they are common causes.",
        "The documentation of CRIU explains most errors.",
    ),
    Reason(
        SECTION,
        AgentReason.UNSUPPORTED_REGISTERS,
        "A thread of the worker had registers in use that CRIU leaves out of its images: AMX's tiles, in the middle of "
        "a computation on a processor of Intel's, or those of APX.",
        "AMX: capture the worker while it computes nothing: say that it is ready (`snapshot_sdk.quiesce()`) when it is "
        "idle, or take it out of its Service first.",
        "The worker goes on as it was, and the capture is tried again as after any failure. Workers that use AMX and "
        "do not at that moment are captured; permission to use it is given to the restored worker again. A program "
        "that was compiled for APX has its registers in use all the time.",
    ),
    Reason(
        SECTION,
        AgentReason.RESTORE_FAILED,
        "CRIU could not restore the worker; the message has its first errors.",
        CAPTURE_AGAIN + " Report it if that does not help.",
        "Pods keep starting cold meanwhile.",
    ),
    Reason(
        SECTION,
        AgentReason.CRIU_MISSING,
        "CRIU does not run on the node.",
        "Use an agent image that is whole and made for the node's architecture.",
    ),
    Reason(
        SECTION,
        AgentReason.CRIU_TOO_OLD,
        "The agent's CRIU is older than this system needs.",
        "Use the agent image of this release.",
    ),
    Reason(
        SECTION,
        AgentReason.WORK_UNWRITABLE,
        "The agent could not make its scratch folder: its disk on the node is full or read-only.",
        "Make room on the node's disk, or look why it is read-only; then delete the pod, or capture again.",
    ),
    Reason(
        SECTION,
        AgentReason.PROOF_FAILED,
        "The artifact was written, and the worker does not run when it is restored from it.",
        "Read the message and the log of the capture pod; if only the proof is at fault, set `capture.proof=Read`.",
        "After it has published an artifact the agent restores it in the very container that it was captured in, waits "
        "until the worker's own probe passes, by HTTP, TCP, gRPC or a command (a worker without one is not woken), and "
        "ends it. A worker that does not come back there comes back nowhere, so the artifact is removed and the "
        "checkpoint fails: later pods start cold.",
    ),
    Reason(
        SECTION,
        AgentReason.CANARY_FAILED,
        "The worker runs and does not answer its canary as it should.",
        "Ask it yourself with what the annotation says; a restore's pod has started cold, its answer is the right one.",
        f"Annotation `{keys.ANN_CANARY}` names a request, or a command that is run in the container, and what its "
        "answer must be ([operating](operating.md)). At a capture the worker itself failed it, and nothing was "
        "touched. At a restore the restored worker did: it was ended before it served a client. A canary that names "
        "`same` needs a checkpoint that was captured with it, and a command a `snapshot-standby` that can run it.",
    ),
    Reason(
        SECTION,
        AgentReason.INTERNAL_ERROR,
        "An unexpected error; the agent's log has the traceback.",
        "Please report it.",
    ),
)
