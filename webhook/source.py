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
from webhook.wish import Unshaped, Wish, check_supported

if TYPE_CHECKING:
    from contract.config.values import Values

Json = dict[str, Any]

_LET_US_MAKE_IT: Final = ", or set the chart value storage.pvc.create=true"
_NEVER: Final = "a pod that mounts it (storage.accessMode=podMount) would not start at all"


def find_source(pod: Json, wish: Wish, checkpoint: Json | None, values: Values, claims: Claims) -> Restore:
    """How ``pod`` is to be shaped, now or, where it waits, for the checkpoint that is being made.

    Raises:
        Unshaped: where it is not to be.
        TargetError: where the containers to restore cannot be told.
    """
    held = _is_held(wish, checkpoint)
    source = _prospect(pod, wish) if checkpoint is None else checkpoint
    if held and checkpoint is None and _leaves_command_to_stock_image(pod, wish, source, values):
        # Its command can be written only now, and is known only after the capture, which this very pod asks for.
        raise _requested(
            wish,
            "; it cannot be held for that, because its container has no command and its image is no placeholder that "
            "placeholder.images names; write the command into the pod template",
        )
    restore = _restore(pod, wish, source, values, held=held)
    if restore.storage.in_pod:
        _check_claim(wish, checkpoint, restore, claims(wish.namespace))
    return restore


def differences(pod: Json, checkpoint: Json | None, restore: Restore) -> tuple[str, ...]:
    """What a person should know who expects the pod's own command line to run."""
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


def _is_held(wish: Wish, checkpoint: Json | None) -> bool:
    """Whether the pod waits; False: the checkpoint is there."""
    if checkpoint is None:
        if not wish.automatic:
            raise Unshaped(
                Admission.CHECKPOINT_NOT_FOUND,
                f"DynamoCheckpoint {wish.namespace}/{wish.name} does not exist; create it, or correct annotation "
                f"{keys.ANN_CHECKPOINT_NAME}",
            )
        if not wish.may_wait:
            raise _requested(wish)
        return True
    if checkpoint["metadata"].get("deletionTimestamp"):
        raise Unshaped(
            Admission.CHECKPOINT_DELETING, f"DynamoCheckpoint {wish.name} is being deleted; {_after_deletion(wish)}"
        )
    if ckpt.is_given_up(checkpoint):
        return _begins_anew(wish)
    return _waits_for_phase(wish, checkpoint.get("status") or {})


def _requested(wish: Wish, more: str = "") -> Unshaped:
    return Unshaped(
        Admission.CHECKPOINT_REQUESTED,
        f"no checkpoint of this template exists yet; DynamoCheckpoint {wish.name} is made of it, and pods created once "
        f"it is Ready are restored{more}",
    )


def _after_deletion(wish: Wish) -> str:
    return "pods created after that make a new one" if wish.automatic else "create a new one"


def _begins_anew(wish: Wish) -> bool:
    """Its capture was ended for want of a pod; here is one."""
    if not wish.may_wait:
        raise Unshaped(
            Admission.CHECKPOINT_NOT_READY,
            f"the capture of DynamoCheckpoint {wish.name} had been ended, because nobody wanted it any more; this pod "
            "has it begun anew, and pods created once it is Ready are restored",
        )
    return True


def _waits_for_phase(wish: Wish, status: Json) -> bool:
    phase = status.get("phase") or Phase.PENDING
    if phase == Phase.READY:
        return False
    if phase == Phase.FAILED:
        raise Unshaped(
            Admission.CHECKPOINT_FAILED,
            f"DynamoCheckpoint {wish.name} failed: {status.get('message') or 'no message'}; correct the cause, then "
            f"capture again with a new value of its annotation {keys.ANN_ARTIFACT_VERSION}",
        )
    if not wish.may_wait:
        raise Unshaped(
            Admission.CHECKPOINT_NOT_READY,
            f"DynamoCheckpoint {wish.name} is {phase}; pods created once it is Ready are restored",
        )
    return True


def _prospect(pod: Json, wish: Wish) -> Json:
    """The checkpoint that will be made of an automatic pod, as far as shaping asks."""
    labels = {keys.LABEL_CHECKPOINT_ID: wish.checkpoint_id}
    annotations = {keys.ANN_AUTO_CHECKPOINT: "true", keys.ANN_TEMPLATE_HASH: wish.stamp}
    metadata = {"name": wish.name, "labels": labels, "annotations": annotations}
    job = {"podTemplateSpec": {"spec": pod.get("spec") or {}}, "targetContainerName": wish.target}
    return {"metadata": metadata, "spec": {"job": job}}


def _leaves_command_to_stock_image(pod: Json, wish: Wish, source: Json, values: Values) -> bool:
    container = ckpt.find_container(pod["spec"], wish.target) or {}
    image = _captured_image(source, container, values)
    return not container.get("command") and tools_for(source, image, values) is not None


def _restore(pod: Json, wish: Wish, checkpoint: Json, values: Values, *, held: bool) -> Restore:
    checkpoint_id, version = _artifact(wish.name, checkpoint)
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
        checkpoint=wish.name,
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
        stamp=wish.stamp,
    )


def _storage(values: Values) -> Storage:
    try:
        return storage_from_values(values)
    except StorageError as error:
        raise Unshaped(Admission.STORAGE_UNAVAILABLE, f"the chart's values do not fit: {error}") from error


def _check_claim(wish: Wish, checkpoint: Json | None, restore: Restore, claim: ClaimState) -> None:
    """A pod that mounts a claim that is not there would not start cold: it would never start."""
    problem = _claim_problem(claim, said_of_claim(checkpoint), restore, wish.namespace)
    if problem and checkpoint is None:
        # Who starts cold for want of the claim asks for the checkpoint all the same: that says what it waits for.
        raise _requested(wish, f"; it cannot be held for that: {problem}; {_NEVER}")
    if problem:
        raise Unshaped(Admission.VOLUME_CLAIM_UNAVAILABLE, f"{problem}; {_NEVER}")


def _claim_problem(claim: ClaimState, said: str, restore: Restore, namespace: str) -> str:
    """What keeps the claim from being mounted.

    The controller's word *said* is a moment older than what the copy of claims knows, but tells why it may not be made.
    """
    if claim == ClaimState.UNKNOWN:
        return said
    storage = restore.storage
    problem = claim_problem(claim, f"{namespace}/{storage.pvc_name}")
    if claim != ClaimState.MISSING or not restore.held:
        return problem
    # The controller makes it together with the checkpoint, where it may.
    return said if storage.create else problem + _LET_US_MAKE_IT


def _artifact(name: str, checkpoint: Json) -> tuple[str, str]:
    try:
        checkpoint_id = ckpt.resolve_id(checkpoint)
        version = ckpt.captured_version(checkpoint, checkpoint_id)
    except BadIdError as error:
        raise Unshaped(Admission.CHECKPOINT_ID_UNAVAILABLE, f"DynamoCheckpoint {name}: {error}") from error
    if checkpoint_id is None:
        raise Unshaped(
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
            raise Unshaped(
                Admission.IMAGE_MISMATCH,
                f"container {target} has image {own}, the checkpoint was taken of {image}; use that image, map one to "
                f"the other with the chart value placeholder.images, or accept the checkpoint's image with annotation "
                f"{keys.ANN_IMAGE_POLICY}={keys.IMAGE_POLICY_CHECKPOINT}",
            )
