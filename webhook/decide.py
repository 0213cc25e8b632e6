"""The admission decision: which pods are mutated for a restore, and what is written on the others.

One pod, one answer: a code of the closed list, a sentence that says what to do next, the operations, the warnings.
Nothing is looked up but the checkpoint and, with podMount, whether its volume claim is there; both come from memory, so
pod creation never waits for anyone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from contract.api import keys
from contract.api.checkpoint import TargetError
from contract.api.states import Admission
from contract.api.volume_claims import Claims, unknown
from contract.config.values import Values
from contract.pods.common import MountTakenError
from contract.pods.injected_tools import EntrypointUnknownError
from contract.pods.restore_patch import Restore, annotation_operations, restore_operations
from webhook.request import NotEligible, RestoreRequest, opted_in, parse_request, says_shaped
from webhook.source import differences, resolve_source

Json = dict[str, Any]
Lookup = Callable[[str, str], Json | None]
"""Namespace and name of a DynamoCheckpoint to the object, None if there is none."""

_CODES: Final = {
    TargetError: Admission.TARGETS_INVALID,
    MountTakenError: Admission.POD_UNSUPPORTED,
    EntrypointUnknownError: Admission.ENTRYPOINT_UNKNOWN,
}


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
    if request.get("operation") != "CREATE" or request.get("subResource"):
        return Decision(Admission.NOT_A_CREATE, "only the creation of pods is looked at")
    pod: Json = request.get("object") or {}
    wanted: RestoreRequest | None = None
    try:
        wanted = parse_request(request, pod, values)
        checkpoint = lookup(wanted.namespace, wanted.name)
        restore = resolve_source(pod, wanted, checkpoint, values, claims)
        operations = restore_operations(pod, restore)
    except NotEligible as reason:
        return _unshaped(pod, wanted, reason.code, reason.message)
    except (TargetError, MountTakenError, EntrypointUnknownError) as error:
        return _unshaped(pod, wanted, _CODES[type(error)], str(error))
    return _shaped(restore, tuple(operations), differences(pod, checkpoint, restore))


def _shaped(restore: Restore, operations: tuple[Json, ...], warnings: tuple[str, ...]) -> Decision:
    source = f"DynamoCheckpoint {restore.checkpoint} (id {restore.checkpoint_id})"
    if not restore.held:
        return Decision(Admission.RESTORE_SHAPED, f"shaped to restore from {source}", operations, warnings)
    message = (
        f"waits for {source}; the scheduling gate {keys.SCHEDULING_GATE} is lifted when that is Ready, fails or is "
        "deleted, or after the chart value waitTimeout"
    )
    told = f"{keys.ANN_ADMISSION}={Admission.HELD.value}: this pod {message}"
    return Decision(Admission.HELD, message, operations, (told, *warnings))


def _unshaped(pod: Json, wanted: RestoreRequest | None, code: Admission, message: str) -> Decision:
    """Write the reason on the pod itself: with failure policy Ignore and a Deployment it is seen nowhere else."""
    if not opted_in(pod) or (code == Admission.ALREADY_SHAPED and says_shaped(pod)):
        return Decision(code, message)
    notes = {keys.ANN_ADMISSION: code.value} | (wanted.notes if wanted else {})
    # What became of an earlier pod, in a manifest copied from it, would keep the controller from looking at this one.
    operations = annotation_operations(pod.get("metadata") or {}, notes, keys.ANN_GATE, keys.ANN_REQUEST)
    warning = f"{keys.ANN_ADMISSION}={code.value}: this pod starts cold: {message}"
    return Decision(code, message, tuple(operations), (warning,))
