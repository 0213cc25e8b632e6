"""The admission decision as an Event, so that ``kubectl describe`` of a pod or of its owner says what happened."""

from typing import Final, Literal, NamedTuple

from contract.api.states import Admission
from contract.remedies.admission import ADMISSION
from controller.workloads import pods
from kube.api import Object

QUIET: Final = frozenset(
    {
        Admission.RESTORE_SHAPED,
        Admission.ALREADY_SHAPED,
        Admission.CHECKPOINT_REQUESTED,
        Admission.CHECKPOINT_NOT_READY,
        Admission.HELD,
        Admission.CAPTURABLE,
        Admission.PLACEHOLDER,
    }
)
"""What happens in the ordinary life of a workload; everything else needs attention."""


class AdmissionEvent(NamedTuple):
    """An Event in the making."""

    type: Literal["Normal", "Warning"]
    reason: str
    message: str


def admission_event(pod: Object) -> AdmissionEvent | None:
    """Return what to say about the pod's admission; None if its code is absent or unknown."""
    code = pods.admission(pod)
    if code not in set(Admission):
        return None
    found = Admission(code)
    words = ADMISSION[found]
    name = pods.checkpoint_name(pod)
    about = f" DynamoCheckpoint {name}." if name else ""
    message = f"{words.meaning}{about} {words.remedy} See {words.link}"
    return AdmissionEvent("Normal" if found in QUIET else "Warning", camel_case(code), message)


def camel_case(code: str) -> str:
    """Return ``restore-shaped`` as ``RestoreShaped``: Events' reasons are one word."""
    return "".join(part.capitalize() for part in code.split("-"))
