"""The admission decision: which pods are shaped for restore, and what the others are told.

One pod, one answer: a code of the closed list, a sentence that says what to do next, the operations, the warnings.
Nothing is looked up but the checkpoint, and that comes from memory, so pod creation never waits for anyone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from contract import checkpoint as ckpt
from contract import keys, pod_parts
from contract.restore_shape import Restore, annotation_operations, restore_operations
from contract.states import Admission, Phase
from contract.storage import BadIdError, StorageError, storage_from_values
from contract.values import Values

Json = dict[str, Any]
Lookup = Callable[[str, str], Json | None]
"""Namespace and name of a DynamoCheckpoint to the object, None where there is none."""

SYSTEM_NAMESPACE: Final = "kube-system"


@dataclass(frozen=True)
class Decision:
    """The answer for one pod; it is always admitted."""

    code: Admission
    message: str
    operations: tuple[Json, ...] = ()
    """JSON patch."""
    warnings: tuple[str, ...] = ()
    """Shown by kubectl where a person creates the pod; a controller's pods show only the annotation."""


class _Unshaped(Exception):  # noqa: N818 - not an error: the row of the table that ends the search
    """The pod stays as it is, for this reason."""

    def __init__(self, code: Admission, message: str) -> None:
        self.code = code
        self.message = message
        super().__init__(message)


def decide(request: Mapping[str, Any], lookup: Lookup, values: Values) -> Decision:
    """Decide about the pod of an admission request.

    Args:
        request: ``request`` of an AdmissionReview v1; its ``object`` is a pod.
        lookup: finds a DynamoCheckpoint.
        values: the chart's values.
    """
    if request.get("operation") != "CREATE" or request.get("subResource"):
        return Decision(Admission.NOT_A_CREATE, "only the creation of pods is looked at")
    pod: Json = request.get("object") or {}
    opted_in = _opted_in(pod)
    try:
        restore, checkpoint = _judge(request, pod, lookup, values)
        operations = restore_operations(pod, restore)
    except ckpt.TargetError as error:
        return _unshaped(pod, Admission.TARGETS_INVALID, str(error))
    except pod_parts.MountTakenError as error:
        return _unshaped(pod, Admission.POD_UNSUPPORTED, str(error))
    except _Unshaped as reason:
        return _unshaped(pod, reason.code, reason.message) if opted_in else Decision(reason.code, reason.message)
    message = f"shaped to restore from DynamoCheckpoint {restore.checkpoint} (id {restore.checkpoint_id})"
    return Decision(Admission.RESTORE_SHAPED, message, tuple(operations), _differences(pod, checkpoint, restore))


def _opted_in(pod: Json) -> bool:
    wish = ckpt.labels_of(pod).get(keys.LABEL_RESTORE)
    return wish in (keys.RESTORE_BY_NAME, keys.RESTORE_AUTO) or _is_candidate(pod)


def _is_candidate(pod: Json) -> bool:
    return ckpt.annotations_of(pod).get(keys.ANN_RESTORE_CANDIDATE) == "true"


def _unshaped(pod: Json, code: Admission, message: str) -> Decision:
    """Told on the pod itself: with failure policy Ignore and a Deployment nobody would see it otherwise."""
    shaped_before = code == Admission.ALREADY_SHAPED and _says_shaped(pod)
    if shaped_before:
        return Decision(code, message)
    operations = annotation_operations(pod.get("metadata") or {}, {keys.ANN_ADMISSION: code.value})
    warning = f"{keys.ANN_ADMISSION}={code.value}: this pod starts cold: {message}"
    return Decision(code, message, tuple(operations), (warning,))


def _says_shaped(pod: Json) -> bool:
    return ckpt.annotations_of(pod).get(keys.ANN_ADMISSION) == Admission.RESTORE_SHAPED


def _judge(request: Mapping[str, Any], pod: Json, lookup: Lookup, values: Values) -> tuple[Restore, Json]:
    """The rows of the table in their order; the first that applies ends it."""
    namespace = (pod.get("metadata") or {}).get("namespace") or request.get("namespace") or ""
    _check_installation(namespace, values)
    _check_wish(pod)
    name = _checkpoint_name(pod)
    checkpoint = lookup(namespace, name)
    _check_phase(namespace, name, checkpoint)
    assert checkpoint is not None  # noqa: S101 - the row above ends the search where there is none
    return _restore(pod, name, checkpoint, values), checkpoint


def _check_installation(namespace: str, values: Values) -> None:
    if not values.checkpoint.enabled:
        raise _Unshaped(
            Admission.CHECKPOINT_DISABLED,
            "checkpoints are switched off; set the chart value checkpoint.enabled=true",
        )
    if namespace == SYSTEM_NAMESPACE or namespace in values.webhook.excluded_namespaces:
        raise _Unshaped(
            Admission.NAMESPACE_EXCLUDED,
            f"namespace {namespace} is excluded; see the chart value webhook.excludedNamespaces",
        )


def _check_wish(pod: Json) -> None:
    labels = ckpt.labels_of(pod)
    if labels.get(keys.LABEL_CHECKPOINT_ID) or labels.get(keys.LABEL_IS_SOURCE):
        raise _Unshaped(
            Admission.ALREADY_SHAPED,
            f"the pod carries label {keys.LABEL_CHECKPOINT_ID} or {keys.LABEL_IS_SOURCE} already; "
            "take these labels out of the pod template if they were copied from another pod",
        )
    wish = labels.get(keys.LABEL_RESTORE)
    if wish == keys.RESTORE_AUTO:
        raise _Unshaped(
            Admission.CHECKPOINT_REQUESTED,
            f"label {keys.LABEL_RESTORE}={keys.RESTORE_AUTO} is not served by this version; create a DynamoCheckpoint, "
            f"set the label to {keys.RESTORE_BY_NAME} and name it with annotation {keys.ANN_CHECKPOINT_NAME}",
        )
    if wish != keys.RESTORE_BY_NAME and not _is_candidate(pod):
        raise _Unshaped(
            Admission.NOT_OPTED_IN,
            f"the pod has neither label {keys.LABEL_RESTORE}={keys.RESTORE_BY_NAME} "
            f"nor annotation {keys.ANN_RESTORE_CANDIDATE}=true",
        )


def _checkpoint_name(pod: Json) -> str:
    annotations = ckpt.annotations_of(pod)
    name = annotations.get(keys.ANN_CHECKPOINT_NAME) or annotations.get(keys.ANN_RESTORE_FROM)
    if not name:
        raise _Unshaped(
            Admission.CHECKPOINT_NAME_MISSING,
            f"no checkpoint is named; add annotation {keys.ANN_CHECKPOINT_NAME} with the name of a DynamoCheckpoint "
            "of this namespace",
        )
    labels = ckpt.labels_of(pod)
    missing = [key for key in keys.GRAPH_LABELS if not labels.get(key)]
    if labels.get(keys.LABEL_RESTORE) != keys.RESTORE_BY_NAME and missing:
        raise _Unshaped(
            Admission.NOT_OPERATOR_STAMPED,
            f"the pod is a restore candidate without label {', '.join(missing)}; outside a graph deployment use label "
            f"{keys.LABEL_RESTORE}={keys.RESTORE_BY_NAME} instead of the candidate annotation",
        )
    return name


def _check_phase(namespace: str, name: str, checkpoint: Json | None) -> None:
    if checkpoint is None:
        raise _Unshaped(
            Admission.CHECKPOINT_NOT_FOUND,
            f"DynamoCheckpoint {namespace}/{name} does not exist; create it, or correct annotation "
            f"{keys.ANN_CHECKPOINT_NAME}",
        )
    if checkpoint["metadata"].get("deletionTimestamp"):
        raise _Unshaped(Admission.CHECKPOINT_DELETING, f"DynamoCheckpoint {name} is being deleted; create a new one")
    status = checkpoint.get("status") or {}
    phase = status.get("phase") or Phase.PENDING
    if phase == Phase.FAILED:
        raise _Unshaped(
            Admission.CHECKPOINT_FAILED,
            f"DynamoCheckpoint {name} failed: {status.get('message') or 'no message'}; correct the cause, then capture "
            f"again with a new value of its annotation {keys.ANN_ARTIFACT_VERSION}",
        )
    if phase != Phase.READY:
        raise _Unshaped(
            Admission.CHECKPOINT_NOT_READY,
            f"DynamoCheckpoint {name} is {phase}; pods created once it is Ready are restored",
        )


def _restore(pod: Json, name: str, checkpoint: Json, values: Values) -> Restore:
    checkpoint_id, version = _artifact(name, checkpoint)
    targets = ckpt.target_containers(pod)
    spec = pod.get("spec") or {}
    try:
        storage = storage_from_values(values)
    except StorageError as error:
        raise _Unshaped(Admission.STORAGE_UNAVAILABLE, f"the chart's values do not fit: {error}") from error
    if problem := pod_parts.unsupported(spec):
        raise _Unshaped(Admission.POD_UNSUPPORTED, f"spec.{problem[0]} {problem[1]}")
    seccomp = values.checkpoint.seccomp
    template = ckpt.template(checkpoint).get("spec") or {}
    captured = ckpt.captured_container(checkpoint) or {}
    image = _captured_image(checkpoint, captured, values)
    _check_images(pod, targets, image, values)
    return Restore(
        checkpoint=name,
        checkpoint_id=checkpoint_id,
        version=version,
        targets=targets,
        storage=storage,
        seccomp_profile=None if seccomp.disabled else seccomp.profile,
        node_affinity=values.admission.node_affinity,
        image=image or None,
        pull_secrets=tuple(secret["name"] for secret in template.get("imagePullSecrets") or () if secret.get("name")),
        shared_memory=_shared_memory(checkpoint, template, captured),
    )


def _artifact(name: str, checkpoint: Json) -> tuple[str, str]:
    try:
        checkpoint_id = ckpt.resolve_id(checkpoint)
        version = ckpt.captured_version(checkpoint, checkpoint_id)
    except BadIdError as error:
        raise _Unshaped(Admission.CHECKPOINT_ID_UNAVAILABLE, f"DynamoCheckpoint {name}: {error}") from error
    if checkpoint_id is None:
        raise _Unshaped(
            Admission.CHECKPOINT_ID_UNAVAILABLE,
            f"DynamoCheckpoint {name} has no id in status.checkpointID, label {keys.LABEL_CHECKPOINT_ID} or "
            "spec.identity; wait for its controller, or look at the controller's log",
        )
    return checkpoint_id, version


def _shared_memory(checkpoint: Json, template: Json, captured: Json) -> str | None:
    """Size of the memory volume at /dev/shm in the capture pod: the template's own, else the one we put there."""
    if pod_parts.mounted_at(captured, keys.SHARED_MEMORY_DIR):
        return pod_parts.memory_volume_size(template, captured)
    return ckpt.shared_memory_size(checkpoint)


def _captured_image(checkpoint: Json, captured: Json, values: Values) -> str:
    """The image that was captured, as the controller noted it; the template may have changed since."""
    noted = ((checkpoint.get("status") or {}).get("image") or {}).get("reference")
    written = str(captured.get("image") or "")
    return str(noted or values.placeholder.images.get(written, written))


def _check_images(pod: Json, targets: tuple[str, ...], image: str, values: Values) -> None:
    """Whether each target has the captured ``image``, or one that the values map to it."""
    if not image or ckpt.annotations_of(pod).get(keys.ANN_IMAGE_POLICY) == keys.IMAGE_POLICY_CHECKPOINT:
        return
    for target in targets:
        own = (ckpt.find_container(pod["spec"], target) or {}).get("image", "")
        if own != image and values.placeholder.images.get(own) != image:
            raise _Unshaped(
                Admission.IMAGE_MISMATCH,
                f"container {target} has image {own}, the checkpoint was taken of {image}; use that image, map one to "
                f"the other with the chart value placeholder.images, or accept the checkpoint's image with annotation "
                f"{keys.ANN_IMAGE_POLICY}={keys.IMAGE_POLICY_CHECKPOINT}",
            )


def _differences(pod: Json, checkpoint: Json, restore: Restore) -> tuple[str, ...]:
    """What a person should know who expects the pod's own command line to run."""
    captured = ckpt.captured_container(checkpoint)
    found = []
    for target in restore.targets if captured else ():
        own = ckpt.find_container(pod["spec"], target) or {}
        fields = [
            field for field in ("command", "args") if (own.get(field) or []) != ((captured or {}).get(field) or [])
        ]
        if fields:
            found.append(
                f"container {target}: {' and '.join(fields)} differ from what DynamoCheckpoint {restore.checkpoint} "
                "captured; the restored process is the captured one, the pod's own runs only in a cold start"
            )
    return tuple(found)
