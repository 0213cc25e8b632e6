"""The admission table: an ordered chain of named checks, each of which answers with its reason or nothing.

Pure: a candidate comes in. The reasons are what a person reads in a warning; docs/reasons.md has the same order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

from contract.api import checkpoint as ckpt
from contract.api import keys
from contract.api.conditions import condition
from contract.api.states import Admission, ConditionType, Phase
from contract.config.storage import BadIdError, StorageError
from contract.nodes.accelerators import refused_resource
from contract.nodes.compatibility import BypassError, read_bypass
from contract.pods import common
from contract.pods.attempts import AttemptsError, attempts_of
from contract.pods.injected_tools import EntrypointUnknownError
from contract.pods.parking import exclusive_gpu
from contract.pods.systems import ARCHITECTURE_LABELS, excludes, other_system
from contract.pods.template_hash import per_pod_identity
from webhook.candidate import UNMET, Candidate

SYSTEM_NAMESPACE: Final = "kube-system"
_NEVER: Final = "a pod that mounts it (storage.accessMode=podMount) would not start at all"

Row = tuple[Admission, Callable[[Candidate], str | None]]


class Refusal(NamedTuple):
    """Why a pod is not mutated, for programs and for people."""

    code: Admission
    message: str


def first_refusal(checks: Iterable[Row], candidate: Candidate) -> Refusal | None:
    """Return the first check that refuses, None if none does."""
    for code, check in checks:
        message = check(candidate)
        if message is not None:
            return Refusal(code, message)
    return None


def all_refusals(candidate: Candidate) -> list[Refusal]:
    """Return every check that refuses, in order.

    A check whose facts cannot be had, for a reason that an earlier one gives, is left out; of a pod that asks for
    nothing, no more is asked.
    """
    found: list[Refusal] = []
    for row in CHECKS:
        try:
            refusal = first_refusal((row,), candidate)
        except UNMET:
            continue
        if refusal is not None and refusal not in found:
            found.append(refusal)
        if refusal is not None and refusal.code in _LAST:
            break
    return found


# What needs no checkpoint


def _not_a_create(candidate: Candidate) -> str | None:
    if candidate.request.get("operation") == "CREATE" and not candidate.request.get("subResource"):
        return None
    return "only the creation of pods is looked at"


def _checkpoint_disabled(candidate: Candidate) -> str | None:
    if candidate.values.checkpoint.enabled:
        return None
    return "checkpoints are switched off; set the chart value checkpoint.enabled=true"


def _namespace_excluded(candidate: Candidate) -> str | None:
    namespace = candidate.namespace
    if namespace != SYSTEM_NAMESPACE and namespace not in candidate.values.webhook.excluded_namespaces:
        return None
    return f"namespace {namespace} is excluded; see the chart value webhook.excludedNamespaces"


def _already_shaped(candidate: Candidate) -> str | None:
    labels = candidate.labels
    shaped = labels.get(keys.LABEL_CHECKPOINT_ID) or labels.get(keys.LABEL_IS_SOURCE)
    if not shaped and not candidate.shaped_before:
        return None
    return (
        f"the pod carries label {keys.LABEL_CHECKPOINT_ID} or {keys.LABEL_IS_SOURCE} already; "
        "take these labels out of the pod template if they were copied from another pod"
    )


def _not_opted_in(candidate: Candidate) -> str | None:
    if candidate.opted_in:
        return None
    return (
        f"the pod has neither label {keys.LABEL_RESTORE}={keys.RESTORE_BY_NAME} or ={keys.RESTORE_AUTO} "
        f"nor annotation {keys.ANN_RESTORE_CANDIDATE}=true"
    )


def _standby_invalid(candidate: Candidate) -> str | None:
    said = candidate.annotations.get(keys.ANN_STANDBY)
    if said is None or said == keys.STANDBY_PARKS:
        return None
    if said != keys.STANDBY_WAITS:
        words = f"it must be {keys.STANDBY_WAITS} or {keys.STANDBY_PARKS}, or absent"
        return f"annotation {keys.ANN_STANDBY} is {said[:40]!r}; {words}"
    if candidate.labels.get(keys.LABEL_RESTORE) == keys.RESTORE_BY_NAME:
        return None
    return (
        f"annotation {keys.ANN_STANDBY} makes placeholders of pods that restore by name; give the pod label "
        f"{keys.LABEL_RESTORE}={keys.RESTORE_BY_NAME}, or take the annotation off"
    )


def _checkpoint_name_missing(candidate: Candidate) -> str | None:
    if candidate.automatic or candidate.name_said or candidate.waits:
        return None
    return (
        f"no checkpoint is named; add annotation {keys.ANN_CHECKPOINT_NAME} with the name of a DynamoCheckpoint "
        "of this namespace"
    )


def _not_operator_stamped(candidate: Candidate) -> str | None:
    labels = candidate.labels
    if candidate.automatic or labels.get(keys.LABEL_RESTORE) == keys.RESTORE_BY_NAME:
        return None
    missing = [key for key in keys.GRAPH_LABELS if not labels.get(key)]
    if not missing:
        return None
    return (
        f"the pod is a restore candidate without label {', '.join(missing)}; outside a graph deployment use label "
        f"{keys.LABEL_RESTORE}={keys.RESTORE_BY_NAME} instead of the candidate annotation"
    )


def _os_unsupported(candidate: Candidate) -> str | None:
    return _field(other_system(candidate.spec))


# Of an automatic pod, what would be captured is judged before it is asked for


def _template_targets_invalid(candidate: Candidate) -> str | None:
    return _targets_invalid(candidate) if candidate.automatic else None


def _template_unsupported(candidate: Candidate) -> str | None:
    return _unsupported(candidate) if candidate.automatic else None


def _targets_invalid(candidate: Candidate) -> str | None:
    found = candidate.found_targets
    return str(found) if isinstance(found, ckpt.TargetError) else None


def _captured_invalid(candidate: Candidate) -> str | None:
    """Refuse a target that is to continue a container which was not captured."""
    found = (ckpt.other_container(target.captured, candidate.source) for target in candidate.targets)
    return next((words for words in found if words), None)


def _unsupported(candidate: Candidate) -> str | None:
    return _field(common.unsupported(candidate.spec))


def _template_accelerator_unsupported(candidate: Candidate) -> str | None:
    return _accelerator_unsupported(candidate) if candidate.automatic else None


def _accelerator_unsupported(candidate: Candidate) -> str | None:
    for target in candidate.targets:
        if problem := refused_resource(target.container):
            return f"spec.containers[{target.name}].{problem[0]}: {problem[1]}"
    return None


def _parked_exclusive_gpu(candidate: Candidate) -> str | None:
    for target in candidate.targets if candidate.parks else ():
        if problem := exclusive_gpu(candidate.spec, target.container):
            return f"spec.containers[{target.name}].{problem[0]}: {problem[1]}"
    return None


def _field(problem: tuple[str, str] | None) -> str | None:
    return f"spec.{problem[0]} {problem[1]}" if problem else None


def _per_pod_identity(candidate: Candidate) -> str | None:
    if not candidate.automatic or candidate.annotations.get(keys.ANN_IDENTITY) == keys.IDENTITY_REFRESHED:
        return None
    path = per_pod_identity(candidate.pod, candidate.target)
    if path is None:
        return None
    return (
        f"{path} gives each replica an identity of its own, which all replicas restored from one checkpoint would "
        "share; take it out, or, if the worker renews its identity after a restore, add annotation "
        f"{keys.ANN_IDENTITY}={keys.IDENTITY_REFRESHED} to the pod template"
    )


def _no_ready_signal(candidate: Candidate) -> str | None:
    if not candidate.automatic or candidate.says_when:
        return None
    if candidate.target.get("startupProbe") or candidate.target.get("readinessProbe"):
        return None
    return (
        f"container {candidate.targets[0].name} has neither a startup nor a readiness probe, so nothing says when it "
        "is worth capturing; add a readiness probe to the pod template"
    )


# What needs the checkpoint


def _checkpoint_not_found(candidate: Candidate) -> str | None:
    if candidate.automatic or candidate.checkpoint is not None or _names_none(candidate):
        return None
    return (
        f"DynamoCheckpoint {candidate.namespace}/{candidate.name} does not exist; create it, or correct annotation "
        f"{keys.ANN_CHECKPOINT_NAME}"
    )


def _names_none(candidate: Candidate) -> bool:
    """Say whether it is a placeholder of which no checkpoint is known yet."""
    return candidate.waits and not candidate.name_said


def _checkpoint_requested(candidate: Candidate) -> str | None:
    if not candidate.automatic or candidate.checkpoint is not None:
        return None
    if not candidate.may_wait:
        return _requested(candidate)
    if candidate.captured.get("command") or candidate.tools is None:
        return None
    # Its command can be written only now, and is known only after the capture, which this very pod asks for.
    return _requested(
        candidate,
        "; it cannot be held for that, because its container has no command and its image is no placeholder that "
        "placeholder.images names; write the command into the pod template",
    )


def _requested(candidate: Candidate, more: str = "") -> str:
    return (
        f"no checkpoint of this template exists yet; DynamoCheckpoint {candidate.name} is made of it, and pods created "
        f"once it is Ready are restored{more}"
    )


def _checkpoint_deleting(candidate: Candidate) -> str | None:
    checkpoint = candidate.checkpoint
    if checkpoint is None or not checkpoint["metadata"].get("deletionTimestamp"):
        return None
    then = "pods created after that make a new one" if candidate.automatic else "create a new one"
    return f"DynamoCheckpoint {candidate.name} is being deleted; {then}"


def _checkpoint_failed(candidate: Candidate) -> str | None:
    checkpoint = candidate.checkpoint
    if checkpoint is None:
        return None
    if ckpt.uses_gpu_memory_service(checkpoint):
        return (
            f"DynamoCheckpoint {candidate.name} has spec.gpuMemoryService.enabled, which is not supported together "
            "with restores; set it to false and capture again"
        )
    if candidate.phase != Phase.FAILED or ckpt.is_given_up(checkpoint):
        return None
    return (
        f"DynamoCheckpoint {candidate.name} failed: {candidate.status.get('message') or 'no message'}; correct the "
        f"cause, then capture again with a new value of its annotation {keys.ANN_ARTIFACT_VERSION}"
    )


def _restores_failing(candidate: Candidate) -> str | None:
    found = condition(candidate.checkpoint or {}, ConditionType.RESTORES_FAILING) or {}
    if candidate.held or found.get("status") != "True":
        return None
    return f"DynamoCheckpoint {candidate.name}: {found.get('message') or 'its restores fail one like the other'}"


def _checkpoint_not_ready(candidate: Candidate) -> str | None:
    if candidate.checkpoint is None or candidate.may_wait or candidate.waits or not candidate.held:
        return None
    if candidate.phase == Phase.FAILED:
        return (
            f"the capture of DynamoCheckpoint {candidate.name} was cancelled because no pod requested it; this pod "
            "restarts it, and pods created once it is Ready are restored"
        )
    return f"DynamoCheckpoint {candidate.name} is {candidate.phase}; pods created once it is Ready are restored"


def _checkpoint_id_unavailable(candidate: Candidate) -> str | None:
    if _names_none(candidate):
        return None
    try:
        checkpoint_id, _ = candidate.artifact
    except BadIdError as error:
        return f"DynamoCheckpoint {candidate.name}: {error}"
    if checkpoint_id is not None or candidate.waits:
        return None
    return (
        f"DynamoCheckpoint {candidate.name} has no id in status.checkpointID, label {keys.LABEL_CHECKPOINT_ID} or "
        "spec.identity; wait for its controller, or look at the controller's log"
    )


def _storage_unavailable(candidate: Candidate) -> str | None:
    try:
        _ = candidate.storage
    except StorageError as error:
        return f"the chart's values do not fit: {error}"
    return None


def _architecture_mismatch(candidate: Candidate) -> str | None:
    """Refuse a pod for nodes of another architecture than the one that the checkpoint was, or will be, captured on."""
    architecture = candidate.captured_architecture
    field = excludes(candidate.spec, ARCHITECTURE_LABELS, architecture) if architecture else None
    if field is None:
        return None
    return (
        f"spec.{field} asks for nodes of another architecture than {architecture}, on which DynamoCheckpoint "
        f"{candidate.name} is captured; restore from a checkpoint of the pod's own architecture, or correct the field"
    )


def _image_mismatch(candidate: Candidate) -> str | None:
    """Refuse a target that has neither the captured image nor one that the values map to it."""
    image, mapped = candidate.captured_image, candidate.values.placeholder.images
    if not image or candidate.annotations.get(keys.ANN_IMAGE_POLICY) == keys.IMAGE_POLICY_CHECKPOINT:
        return None
    for target in candidate.targets:
        own = target.container.get("image", "")
        if own != image and mapped.get(own) != image:
            return (
                f"container {target.name} has image {own}, the checkpoint was taken of {image}; use that image, map "
                "one to the other with the chart value placeholder.images, or accept the checkpoint's image with "
                f"annotation {keys.ANN_IMAGE_POLICY}={keys.IMAGE_POLICY_CHECKPOINT}"
            )
    return None


def _bypass_invalid(candidate: Candidate) -> str | None:
    """Refuse what the agent would refuse once the container has started."""
    try:
        read_bypass(candidate.annotations.get(keys.ANN_BYPASS, ""))
    except BypassError as error:
        return f"annotation {keys.ANN_BYPASS}: {error}; correct it in the pod template"
    return None


def unread(candidate: Candidate) -> list[str]:
    """Say which annotations of the pod cannot be read, whatever is decided about it."""
    found = [_bypass_invalid(candidate)]
    try:
        attempts_of(candidate.pod, candidate.values.config.restore.attempts)
    except AttemptsError as error:
        found.append(str(error))
    return [words for words in found if words is not None]


def _requested_without_claim(candidate: Candidate) -> str | None:
    """Have a pod start cold without the claim and ask for its checkpoint, which then says what it waits for."""
    if not candidate.automatic or candidate.checkpoint is not None or not candidate.may_wait:
        return None
    problem = candidate.claim_problem
    return _requested(candidate, f"; it cannot be held for that: {problem}; {_NEVER}") if problem else None


def _volume_claim_unavailable(candidate: Candidate) -> str | None:
    """Refuse a missing claim: a pod that mounts it would not start cold, it would never start."""
    problem = candidate.claim_problem if candidate.waits or candidate.checkpoint is not None else ""
    return f"{problem}; {_NEVER}" if problem else None


def _mount_taken(candidate: Candidate) -> str | None:
    return str(candidate.patch) if isinstance(candidate.patch, common.MountTakenError) else None


def _entrypoint_unknown(candidate: Candidate) -> str | None:
    if not isinstance(candidate.patch, EntrypointUnknownError):
        return None
    # While the checkpoint is refused for its state, a capture is to come, which notes what the image runs.
    to_come = any(check(candidate) for check in _OF_ITS_STATE)
    return None if to_come else str(candidate.patch)


_OF_ITS_STATE: Final = (_checkpoint_requested, _checkpoint_deleting, _checkpoint_failed, _checkpoint_not_ready)


REQUEST_CHECKS: Final[tuple[Row, ...]] = (
    (Admission.NOT_A_CREATE, _not_a_create),
    (Admission.CHECKPOINT_DISABLED, _checkpoint_disabled),
    (Admission.NAMESPACE_EXCLUDED, _namespace_excluded),
    (Admission.ALREADY_SHAPED, _already_shaped),
    (Admission.NOT_OPTED_IN, _not_opted_in),
    (Admission.STANDBY_INVALID, _standby_invalid),
    (Admission.CHECKPOINT_NAME_MISSING, _checkpoint_name_missing),
    (Admission.NOT_OPERATOR_STAMPED, _not_operator_stamped),
    (Admission.OS_UNSUPPORTED, _os_unsupported),
    (Admission.TARGETS_INVALID, _template_targets_invalid),
    (Admission.POD_UNSUPPORTED, _template_unsupported),
    (Admission.ACCELERATOR_UNSUPPORTED, _template_accelerator_unsupported),
    (Admission.PER_POD_IDENTITY, _per_pod_identity),
    (Admission.NO_READY_SIGNAL, _no_ready_signal),
)
"""What needs no checkpoint; none is asked for if one of these refuses."""
POD_CHECKS: Final[tuple[Row, ...]] = (
    (Admission.OS_UNSUPPORTED, _os_unsupported),
    (Admission.TARGETS_INVALID, _targets_invalid),
    (Admission.POD_UNSUPPORTED, _unsupported),
    (Admission.PER_POD_IDENTITY, _per_pod_identity),
    (Admission.NO_READY_SIGNAL, _no_ready_signal),
)
"""What is asked once more of a mutated pod that another webhook has changed since: all that the pod alone decides."""
SOURCE_CHECKS: Final[tuple[Row, ...]] = (
    (Admission.CHECKPOINT_NOT_FOUND, _checkpoint_not_found),
    (Admission.CHECKPOINT_REQUESTED, _checkpoint_requested),
    (Admission.CHECKPOINT_DELETING, _checkpoint_deleting),
    (Admission.CHECKPOINT_FAILED, _checkpoint_failed),
    (Admission.RESTORES_FAILING, _restores_failing),
    (Admission.CHECKPOINT_NOT_READY, _checkpoint_not_ready),
    (Admission.CHECKPOINT_ID_UNAVAILABLE, _checkpoint_id_unavailable),
    (Admission.TARGETS_INVALID, _targets_invalid),
    (Admission.TARGETS_INVALID, _captured_invalid),
    (Admission.STORAGE_UNAVAILABLE, _storage_unavailable),
    (Admission.POD_UNSUPPORTED, _unsupported),
    (Admission.ACCELERATOR_UNSUPPORTED, _accelerator_unsupported),
    (Admission.PARKED_EXCLUSIVE_GPU, _parked_exclusive_gpu),
    (Admission.ARCHITECTURE_MISMATCH, _architecture_mismatch),
    (Admission.IMAGE_MISMATCH, _image_mismatch),
    (Admission.BYPASS_INVALID, _bypass_invalid),
    (Admission.CHECKPOINT_REQUESTED, _requested_without_claim),
    (Admission.VOLUME_CLAIM_UNAVAILABLE, _volume_claim_unavailable),
    (Admission.POD_UNSUPPORTED, _mount_taken),
    (Admission.ENTRYPOINT_UNKNOWN, _entrypoint_unknown),
)
"""What needs the checkpoint; an automatic pod that is refused here has asked for one."""
CHECKS: Final = (*REQUEST_CHECKS, *SOURCE_CHECKS)
"""All of them: the first that refuses is the code that admission writes."""
_LAST: Final = frozenset({Admission.NOT_A_CREATE, Admission.NOT_OPTED_IN})
