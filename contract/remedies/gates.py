"""What is said about a held pod: why its gate was lifted, and the Events about its gate."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from contract.api import keys
from contract.api.states import GateEnd, GateEvent
from contract.remedies.registry import NOTHING, REASONS_PAGE, Origin, Reason, Section

_ANCHOR: Final = "how-a-held-pod-was-let-go"
_ENDS: Final = Section(
    REASONS_PAGE,
    Origin("the controller", f"on the pod in annotation `{keys.ANN_GATE}`"),
    "How a held pod was let go",
    _ANCHOR,
    f"A pod that is `held` carries the scheduling gate `{keys.SCHEDULING_GATE}`.\n"
    "When the gate is lifted, the annotation says why:",
)
_EVENTS: Final = Section(REASONS_PAGE, Origin("the controller", "in Events about the gate of a pod"), anchor=_ANCHOR)

GATE_REASONS: Final = (
    Reason(
        _ENDS,
        GateEnd.CHECKPOINT_READY,
        "The pod was released because its checkpoint is Ready; it restores.",
        NOTHING,
    ),
    Reason(
        _ENDS,
        GateEnd.CHECKPOINT_FAILED,
        "The pod was released because its checkpoint failed; it starts cold.",
        (
            "Read the checkpoint's message, correct the cause, then capture again: set annotation "
            f"`{keys.ANN_ARTIFACT_VERSION}` of the DynamoCheckpoint to a new value."
        ),
    ),
    Reason(
        _ENDS,
        GateEnd.CHECKPOINT_DELETED,
        "The pod was released because its checkpoint was deleted; it starts cold.",
        "Create the checkpoint again, or name another.",
    ),
    Reason(
        _ENDS,
        GateEnd.WAIT_TIMEOUT,
        "The pod was released because its checkpoint took longer than `waitTimeout`; it starts cold.",
        "`snapshotctl describe NAME` says what it waits for; raise `waitTimeout` if the capture needs longer.",
    ),
    Reason(
        _ENDS,
        GateEnd.JOB_DEADLINE,
        "The pod was released because waiting longer would use up its Job's `activeDeadlineSeconds`; it starts cold.",
        (
            "Nothing to do: later runs restore once the checkpoint is Ready. To have this one wait, raise "
            "`activeDeadlineSeconds` to ten times what the capture takes."
        ),
        (
            "A pod of a Job waits at most a tenth of what is left of the deadline when it is created, and not at all "
            "if that is less than 30 s. A run of a CronJob does not wait: the next run might replace it."
        ),
    ),
    Reason(
        _ENDS,
        GateEnd.VOLUME_CLAIM_UNAVAILABLE,
        "The pod was released, but it cannot start: the volume claim that it mounts is missing or being deleted.",
        (
            "Make the claim again, with its old volume if that holds artifacts; or delete the pod: the one made in its "
            "place starts cold."
        ),
        "Only with `storage.accessMode: podMount`. The Event says why the pod was released.",
    ),
    Reason(
        _ENDS,
        GateEnd.UNINSTALLED,
        "The pod was released because the Helm release that held it was uninstalled; it starts cold.",
        "Install the release again and create the pod again, or take the label off its template.",
    ),
    Reason(
        _EVENTS,
        GateEvent.LIFTED,
        "The gate was removed; the message ends with the code above.",
        "See the table above.",
        "A Normal Event, or a Warning if the worker starts cold.",
    ),
    Reason(
        _EVENTS,
        GateEvent.KEPT,
        f"The pod would be released, but `{keys.ANN_POLICY}: {keys.POLICY_REQUIRE}` keeps it from starting cold.",
        "Repair its checkpoint, or drop the policy.",
        "A Warning.",
    ),
    Reason(
        _EVENTS,
        GateEvent.REFUSED,
        "The pod may be scheduled, but the API server refuses the change.",
        (
            "Correct what refuses it, and the pod is released by itself within a minute; or run the command that the "
            "message ends with."
        ),
        (
            "A Warning, repeated every five minutes for as long as it lasts, not with every try. An admission policy, "
            "a quota, or a webhook that denies the change or does not answer: the message quotes it."
        ),
    ),
)

GATE: Final[Mapping[str, Reason]] = {reason.code: reason for reason in GATE_REASONS if reason.section is _ENDS}
"""By ``GateEnd``."""
