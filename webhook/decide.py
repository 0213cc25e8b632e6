"""The admission decision: which pods are mutated for a restore, and what is written on the others.

One pod, one answer: a code of the closed list, a sentence that says what to do next, the operations, the warnings.
Nothing is looked up but the checkpoint and, with podMount, whether its volume claim is there; both come from memory, so
pod creation never waits for anyone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from contract.api import keys
from contract.api.states import Admission
from contract.api.volume_claims import Claims, unknown
from contract.config.values import Values
from contract.pods import common
from contract.pods.restore_patch import annotation_operations, escape
from webhook.candidate import Candidate, Json, Lookup
from webhook.checks import POD_CHECKS, REQUEST_CHECKS, SOURCE_CHECKS, Refusal, all_refusals, first_refusal, unread

_NO_ARTIFACT: Final = frozenset(
    {
        Admission.CHECKPOINT_REQUESTED,
        Admission.CHECKPOINT_DELETING,
        Admission.CHECKPOINT_FAILED,
        Admission.CHECKPOINT_NOT_READY,
    }
)
"""What keeps a pod from being restored only for now."""
_AUTOMATIC: Final[Json] = {
    "op": "add",
    "path": f"/metadata/labels/{escape(keys.LABEL_RESTORE)}",
    "value": keys.RESTORE_AUTO,
}
_WAITING: Final = (
    "waits until a checkpoint is restored into it: `snapshotctl restore --pod POD --checkpoint-id ID`; it does not "
    "become Ready before"
)
_COMMAND_LINE: Final = ("command", "args")


@dataclass(frozen=True)
class Decision:
    """The answer for one pod; it is always admitted."""

    code: Admission
    message: str
    operations: tuple[Json, ...] = ()
    """JSON patch."""
    warnings: tuple[str, ...] = ()
    """Shown by kubectl where a person creates the pod; a controller's pods show only the annotation."""


def decide(request: Mapping[str, Any], lookup: Lookup, values: Values, claims: Claims = unknown) -> Decision:
    """Decide about the pod of an admission request.

    Args:
        request: ``request`` of an AdmissionReview v1; its ``object`` is a pod.
        lookup: finds a DynamoCheckpoint.
        values: the chart's values.
        claims: with podMount, the state of a namespace's volume claim.
    """
    candidate = Candidate(request, lookup, values, claims)
    decision = _decide(candidate)
    if decision.operations and decision.code != Admission.BYPASS_INVALID and (words := unread(candidate)):
        decision = replace(decision, warnings=(*decision.warnings, *words))
    if not candidate.by_trigger or not decision.operations:
        return decision
    # The controller selects automatic pods by this label.
    return replace(decision, operations=(_AUTOMATIC, *decision.operations))


def _decide(candidate: Candidate) -> Decision:
    if candidate.shaped_before:
        before = candidate.as_it_came
        if refusal := first_refusal(POD_CHECKS, before):
            return _undone(before, refusal)
    if refusal := first_refusal(REQUEST_CHECKS, candidate):
        return _refused(candidate, refusal, {})
    if refusal := first_refusal(SOURCE_CHECKS, candidate):
        if refusal.code in _NO_ARTIFACT and candidate.says_when:
            return _capturable(candidate, refusal)
        return _refused(candidate, refusal, candidate.notes)
    return _shaped(candidate)


def refusals(request: Mapping[str, Any], lookup: Lookup, values: Values, claims: Claims = unknown) -> list[Refusal]:
    """Return all that keeps the same pod from being mutated, so that all can be corrected at once.

    The first is what ``decide`` answers with; there is none if that mutates the pod.
    """
    return all_refusals(Candidate(request, lookup, values, claims))


def _capturable(candidate: Candidate, refusal: Refusal) -> Decision:
    """Start the worker so that it can be captured while it runs: it says when, and no Job is made."""
    operations = candidate.serving_patch
    if isinstance(operations, common.MountTakenError):
        return _refused(candidate, Refusal(Admission.POD_UNSUPPORTED, str(operations)), {})
    if isinstance(operations, Exception):
        return _refused(candidate, Refusal(Admission.ENTRYPOINT_UNKNOWN, str(operations)), {})
    message = (
        f"starts cold, and can be captured while it runs: DynamoCheckpoint {candidate.name} is made when its worker "
        f"asks for it ({refusal.code.value} now)"
    )
    return Decision(Admission.CAPTURABLE, message, operations, (_warning(Admission.CAPTURABLE, message),))


def _shaped(candidate: Candidate) -> Decision:
    restore, warnings = candidate.restore, _differences(candidate)
    operations = candidate.patch
    if isinstance(operations, Exception):
        raise operations
    if restore.waits:
        return Decision(Admission.PLACEHOLDER, _WAITING, operations, warnings)
    source = f"DynamoCheckpoint {restore.checkpoint} (id {restore.checkpoint_id})"
    if not restore.held:
        parked = "; its worker is parked, `snapshotctl wake POD` lets it go on" if restore.parks else ""
        return Decision(Admission.RESTORE_SHAPED, f"shaped to restore from {source}{parked}", operations, warnings)
    message = (
        f"waits for {source}; the scheduling gate {keys.SCHEDULING_GATE} is lifted when that is Ready, fails or is "
        "deleted, or after the chart value waitTimeout"
    )
    told = f"{keys.ANN_ADMISSION}={Admission.HELD.value}: this pod {message}"
    return Decision(Admission.HELD, message, operations, (told, *warnings))


def _differences(candidate: Candidate) -> tuple[str, ...]:
    """Warn a person who expects the pod's own command line to run."""
    captured = candidate.captured
    if candidate.automatic or not captured:
        return ()
    found = []
    for target in candidate.targets:
        fields = [
            field for field in _COMMAND_LINE if (target.container.get(field) or []) != (captured.get(field) or [])
        ]
        if fields:
            found.append(
                f"container {target.name}: {' and '.join(fields)} differ from what DynamoCheckpoint {candidate.name} "
                "captured; the restored process is the captured one, the pod's own runs only in a cold start"
            )
    return tuple(found)


def _undone(before: Candidate, refusal: Refusal) -> Decision:
    """Take back what an earlier look wrote: another webhook has made of the pod one that cannot be restored."""
    code, message = refusal
    metadata = before.pod["metadata"]
    notes = {**before.annotations, keys.ANN_ADMISSION: code.value}
    operations: tuple[Json, ...] = (
        {"op": "replace", "path": "/metadata/labels", "value": metadata["labels"]},
        {"op": "replace", "path": "/metadata/annotations", "value": notes},
        {"op": "replace", "path": "/spec", "value": before.spec},
    )
    message = f"another webhook has changed the pod after it was mutated, so that is taken back: {message}"
    return Decision(code, message, operations, (_warning(code, message),))


def _warning(code: Admission, message: str) -> str:
    return f"{keys.ANN_ADMISSION}={code.value}: this pod starts cold: {message}"


def _refused(candidate: Candidate, refusal: Refusal, notes: dict[str, str]) -> Decision:
    """Write the reason on the pod itself: with failure policy Ignore and a Deployment it is seen nowhere else."""
    code, message = refusal
    if code == Admission.NOT_A_CREATE or not candidate.opted_in:
        return Decision(code, message)
    if code == Admission.ALREADY_SHAPED and candidate.says_shaped:
        return Decision(code, message)
    # What became of an earlier pod, in a manifest copied from it, would keep the controller from looking at this one.
    operations = annotation_operations(
        candidate.pod.get("metadata") or {},
        {keys.ANN_ADMISSION: code.value} | notes,
        keys.ANN_GATE,
        keys.ANN_REQUEST,
    )
    return Decision(code, message, tuple(operations), (_warning(code, message),))
