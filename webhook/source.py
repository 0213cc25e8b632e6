"""What a pod restores from: the rows of the table that need the checkpoint, and all that shaping takes from it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from contract.api import checkpoint as ckpt
from contract.api import keys
from contract.api.states import Admission, Phase
from contract.api.volume_claims import Claims, ClaimState, claim_problem, said_of_claim
from contract.config.storage import BadIdError, Storage, StorageError, storage_from_values
from contract.pods import common
from contract.pods.injected_tools import tools_for
from contract.pods.restore_patch import Restore
from webhook.request import NotEligible, RestoreRequest, check_supported

if TYPE_CHECKING:
    from contract.config.values import Values

Json = dict[str, Any]

_LET_US_MAKE_IT: Final = ", or set the chart value storage.pvc.create=true"
_NEVER: Final = "a pod that mounts it (storage.accessMode=podMount) would not start at all"


def resolve_source(
    pod: Json, wanted: RestoreRequest, checkpoint: Json | None, values: Values, claims: Claims
) -> Restore:
    """Decide how ``pod`` is mutated, now or, if it waits, for the checkpoint that is being made.

    Raises:
        NotEligible: if it is not to be.
        TargetError: if the containers to restore cannot be determined.
    """
    held = _is_held(wanted, checkpoint)
    source = expected_checkpoint(pod, wanted) if checkpoint is None else checkpoint
    if held and checkpoint is None and _leaves_command_to_stock_image(pod, wanted, source, values):
        # Its command can be written only now, and is known only after the capture, which this very pod asks for.
        raise _requested(
            wanted,
            "; it cannot be held for that, because its container has no command and its image is no placeholder that "
            "placeholder.images names; write the command into the pod template",
        )
    restore = _restore(pod, wanted, source, values, held=held)
    if restore.storage.in_pod:
        _check_claim(wanted, checkpoint, restore, claims(wanted.namespace))
    return restore


def differences(pod: Json, checkpoint: Json | None, restore: Restore) -> tuple[str, ...]:
    """Warn a person who expects the pod's own command line to run."""
    captured = ckpt.captured_container(checkpoint) if checkpoint else None
    if captured is None or restore.stamp:
        return ()
    found = []
    for target in restore.targets:
        own = ckpt.find_container(pod["spec"], target) or {}
        fields = [field for field in ("command", "args") if (own.get(field) or []) != (captured.get(field) or [])]
        if fields:
            found.append(
                f"container {target}: {' and '.join(fields)} differ from what DynamoCheckpoint {restore.checkpoint} "
                "captured; the restored process is the captured one, the pod's own runs only in a cold start"
            )
    return tuple(found)


def _is_held(wanted: RestoreRequest, checkpoint: Json | None) -> bool:
    """Say whether the pod waits; False: the checkpoint is there."""
    if checkpoint is None:
        if not wanted.automatic:
            raise NotEligible(
                Admission.CHECKPOINT_NOT_FOUND,
                f"DynamoCheckpoint {wanted.namespace}/{wanted.name} does not exist; create it, or correct annotation "
                f"{keys.ANN_CHECKPOINT_NAME}",
            )
        if not wanted.may_wait:
            raise _requested(wanted)
        return True
    if checkpoint["metadata"].get("deletionTimestamp"):
        raise NotEligible(
            Admission.CHECKPOINT_DELETING, f"DynamoCheckpoint {wanted.name} is being deleted; {_after_deletion(wanted)}"
        )
    if ckpt.uses_gpu_memory_service(checkpoint):
        raise NotEligible(
            Admission.CHECKPOINT_FAILED,
            f"DynamoCheckpoint {wanted.name} has spec.gpuMemoryService.enabled, which is not supported together with "
            "restores; set it to false and capture again",
        )
    if ckpt.is_given_up(checkpoint):
        return _is_restarted(wanted)
    return _waits_for_phase(wanted, checkpoint.get("status") or {})


def _requested(wanted: RestoreRequest, more: str = "") -> NotEligible:
    return NotEligible(
        Admission.CHECKPOINT_REQUESTED,
        f"no checkpoint of this template exists yet; DynamoCheckpoint {wanted.name} is made of it, and pods created "
        f"once it is Ready are restored{more}",
    )


def _after_deletion(wanted: RestoreRequest) -> str:
    return "pods created after that make a new one" if wanted.automatic else "create a new one"


def _is_restarted(wanted: RestoreRequest) -> bool:
    """Say whether the pod waits for a capture that was cancelled because no pod requested it, and now restarts."""
    if not wanted.may_wait:
        raise NotEligible(
            Admission.CHECKPOINT_NOT_READY,
            f"the capture of DynamoCheckpoint {wanted.name} was cancelled because no pod requested it; this pod "
            "restarts it, and pods created once it is Ready are restored",
        )
    return True


def _waits_for_phase(wanted: RestoreRequest, status: Json) -> bool:
    phase = status.get("phase") or Phase.PENDING
    if phase == Phase.READY:
        return False
    if phase == Phase.FAILED:
        raise NotEligible(
            Admission.CHECKPOINT_FAILED,
            f"DynamoCheckpoint {wanted.name} failed: {status.get('message') or 'no message'}; correct the cause, then "
            f"capture again with a new value of its annotation {keys.ANN_ARTIFACT_VERSION}",
        )
    if not wanted.may_wait:
        raise NotEligible(
            Admission.CHECKPOINT_NOT_READY,
            f"DynamoCheckpoint {wanted.name} is {phase}; pods created once it is Ready are restored",
        )
    return True


def expected_checkpoint(pod: Json, wanted: RestoreRequest) -> Json:
    """Return the checkpoint that will be made of an automatic pod, as far as the patch needs it."""
    labels = {keys.LABEL_CHECKPOINT_ID: wanted.checkpoint_id}
    annotations = {keys.ANN_AUTO_CHECKPOINT: "true", keys.ANN_TEMPLATE_HASH: wanted.stamp}
    metadata = {"name": wanted.name, "labels": labels, "annotations": annotations}
    job = {"podTemplateSpec": {"spec": pod.get("spec") or {}}, "targetContainerName": wanted.target}
    return {"metadata": metadata, "spec": {"job": job}}


def _leaves_command_to_stock_image(pod: Json, wanted: RestoreRequest, source: Json, values: Values) -> bool:
    container = ckpt.find_container(pod["spec"], wanted.target) or {}
    image = _captured_image(source, container, values)
    return not container.get("command") and tools_for(source, image, values) is not None


def _restore(pod: Json, wanted: RestoreRequest, checkpoint: Json, values: Values, *, held: bool) -> Restore:
    checkpoint_id, version = _artifact(wanted.name, checkpoint)
    targets = ckpt.target_containers(pod)
    storage = _storage(values)
    check_supported(pod)
    template = ckpt.template(checkpoint).get("spec") or {}
    captured = ckpt.captured_container(checkpoint) or {}
    image = _captured_image(checkpoint, captured, values)
    _check_images(pod, targets, image, values)
    seccomp = values.checkpoint.seccomp
    own = (ckpt.find_container(pod["spec"], targets[0]) or {}).get("image", "")
    config = (checkpoint.get("status") or {}).get("image") or {}
    return Restore(
        checkpoint=wanted.name,
        checkpoint_id=checkpoint_id,
        version=version,
        targets=targets,
        storage=storage,
        seccomp_profile=None if seccomp.disabled else seccomp.profile,
        node_affinity=values.admission.node_affinity,
        image=image or None,
        pull_secrets=tuple(secret["name"] for secret in template.get("imagePullSecrets") or () if secret.get("name")),
        shared_memory=_shared_memory(checkpoint, template, captured),
        tools=tools_for(checkpoint, image or own, values),
        image_config=config,
        held=held,
        stamp=wanted.stamp,
    )


def _storage(values: Values) -> Storage:
    try:
        return storage_from_values(values)
    except StorageError as error:
        raise NotEligible(Admission.STORAGE_UNAVAILABLE, f"the chart's values do not fit: {error}") from error


def _check_claim(wanted: RestoreRequest, checkpoint: Json | None, restore: Restore, claim: ClaimState) -> None:
    """Refuse a missing claim: a pod that mounts it would not start cold, it would never start."""
    problem = _claim_problem(claim, said_of_claim(checkpoint), restore, wanted.namespace)
    if problem and checkpoint is None:
        # A pod that starts cold without the claim asks for the checkpoint all the same: that says what it waits for.
        raise _requested(wanted, f"; it cannot be held for that: {problem}; {_NEVER}")
    if problem:
        raise NotEligible(Admission.VOLUME_CLAIM_UNAVAILABLE, f"{problem}; {_NEVER}")


def _claim_problem(claim: ClaimState, said: str, restore: Restore, namespace: str) -> str:
    """Say what keeps the claim from being mounted.

    The controller's word *said* is a moment older than what the copy of claims knows, but says why it may not be made.
    """
    if claim == ClaimState.UNKNOWN:
        return said
    storage = restore.storage
    problem = claim_problem(claim, f"{namespace}/{storage.pvc_name}")
    if claim != ClaimState.MISSING or not restore.held:
        return problem
    # The controller makes it together with the checkpoint, if it may.
    return said if storage.create else problem + _LET_US_MAKE_IT


def _artifact(name: str, checkpoint: Json) -> tuple[str, str]:
    try:
        checkpoint_id = ckpt.resolve_id(checkpoint)
        version = ckpt.captured_version(checkpoint, checkpoint_id)
    except BadIdError as error:
        raise NotEligible(Admission.CHECKPOINT_ID_UNAVAILABLE, f"DynamoCheckpoint {name}: {error}") from error
    if checkpoint_id is None:
        raise NotEligible(
            Admission.CHECKPOINT_ID_UNAVAILABLE,
            f"DynamoCheckpoint {name} has no id in status.checkpointID, label {keys.LABEL_CHECKPOINT_ID} or "
            "spec.identity; wait for its controller, or look at the controller's log",
        )
    return checkpoint_id, version


def _shared_memory(checkpoint: Json, template: Json, captured: Json) -> str | None:
    """Size of the memory volume at /dev/shm in the capture pod: the template's own, else the one we put there."""
    if common.mounted_at(captured, keys.SHARED_MEMORY_DIR):
        return common.memory_volume_size(template, captured)
    return ckpt.shared_memory_size(checkpoint)


def _captured_image(checkpoint: Json, captured: Json, values: Values) -> str:
    """Return the image that was captured, as the controller noted it; the template may have changed since."""
    noted = ((checkpoint.get("status") or {}).get("image") or {}).get("reference")
    written = str(captured.get("image") or "")
    return str(noted or values.placeholder.images.get(written, written))


def _check_images(pod: Json, targets: tuple[str, ...], image: str, values: Values) -> None:
    """Check that each target has the captured ``image``, or one that the values map to it."""
    if not image or ckpt.annotations_of(pod).get(keys.ANN_IMAGE_POLICY) == keys.IMAGE_POLICY_CHECKPOINT:
        return
    for target in targets:
        own = (ckpt.find_container(pod["spec"], target) or {}).get("image", "")
        if own != image and values.placeholder.images.get(own) != image:
            raise NotEligible(
                Admission.IMAGE_MISMATCH,
                f"container {target} has image {own}, the checkpoint was taken of {image}; use that image, map one to "
                f"the other with the chart value placeholder.images, or accept the checkpoint's image with annotation "
                f"{keys.ANN_IMAGE_POLICY}={keys.IMAGE_POLICY_CHECKPOINT}",
            )
