"""Reading a DynamoCheckpoint: its id, its version, its target, the image it captures.

Objects stay plain dicts.
Every reader here takes what the API server stores, so a default of the schema may be absent in offline input.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from contract.api import keys
from contract.api.conditions import condition
from contract.api.identity import identity_hash
from contract.api.states import CheckpointReason, ConditionType, Phase, ReadySignal
from contract.config.storage import MAX_VERSION, BadIdError, check_id, check_version
from contract.nodes.gpus import gpu_count

if TYPE_CHECKING:
    from contract.config.values import Values

Json = dict[str, Any]

DEFAULT_SETTLE_SECONDS: Final = 5
"""How long a worker with ready signal Probe must have been ready: probes may pass just before the last warm-up step."""


class TargetError(ValueError):
    """The target containers of a pod or template cannot be determined, or do not exist."""


class Target(NamedTuple):
    """A container of a pod that is captured or restored, found."""

    place: int
    """Its index in ``spec.containers``."""
    container: Json
    captured: str = ""
    """Name of the captured container that it continues, as the pod says it; empty: the one that there is."""

    @property
    def name(self) -> str:
        """The container's name."""
        return str(self.container.get("name", ""))


def labels_of(obj: Mapping[str, Any]) -> Mapping[str, str]:
    """Return the labels of an object, empty if there are none."""
    return (obj.get("metadata") or {}).get("labels") or {}


def annotations_of(obj: Mapping[str, Any]) -> Mapping[str, str]:
    """Return the annotations of an object, empty if there are none."""
    return (obj.get("metadata") or {}).get("annotations") or {}


def controller_of(obj: Mapping[str, Any]) -> Json | None:
    """Return the owner reference of who controls an object."""
    owners = (obj.get("metadata") or {}).get("ownerReferences") or ()
    return next((owner for owner in owners if owner.get("controller")), None)


def resolve_id(checkpoint: Mapping[str, Any]) -> str | None:
    """Return the artifact id: what status says, else the label, else the identity hash; None if nothing gives one.

    Raises:
        BadIdError: if the id found cannot be one.
    """
    status = checkpoint.get("status") or {}
    found = (
        status.get("checkpointID") or status.get("identityHash") or labels_of(checkpoint).get(keys.LABEL_CHECKPOINT_ID)
    )
    if found:
        return check_id(str(found))
    identity = (checkpoint.get("spec") or {}).get("identity")
    return identity_hash(identity) if isinstance(identity, Mapping) and identity.get("model") else None


def id_of(checkpoint: Mapping[str, Any]) -> str:
    """Return the artifact id; empty if there is none yet, or it is invalid."""
    try:
        return resolve_id(checkpoint) or ""
    except BadIdError:
        return ""


def artifact_version(obj: Mapping[str, Any]) -> str:
    """Return the artifact version that the annotation names; blank means the first.

    Raises:
        BadIdError: if it cannot be a version.
    """
    return check_version(
        annotations_of(obj).get(keys.ANN_ARTIFACT_VERSION, "").strip() or keys.DEFAULT_ARTIFACT_VERSION
    )


def next_version(checkpoint: Mapping[str, Any], taken: Collection[str]) -> str:
    """Return the version after the wanted one that is not taken: 2 after 1, b-2 after b."""
    try:
        current = artifact_version(checkpoint)
    except BadIdError:
        current = keys.DEFAULT_ARTIFACT_VERSION
    stem, _, count = current.rpartition("-") if not current.isdecimal() else ("", "", current)
    number = int(count) if count.isdecimal() else 1
    stem = stem if count.isdecimal() else current
    while True:
        number += 1
        found = f"{stem[: MAX_VERSION - len(str(number)) - 1]}-{number}" if stem else str(number)
        if found not in taken:
            return found


def is_automatic(checkpoint: Mapping[str, Any]) -> bool:
    """Say whether the system made this checkpoint, so that it may retry and remove it."""
    return annotations_of(checkpoint).get(keys.ANN_AUTO_CHECKPOINT) == "true"


def is_given_up(checkpoint: Mapping[str, Any]) -> bool:
    """Say whether its capture was cancelled because no pod requested it; a pod that names it restarts the capture."""
    reason = (condition(checkpoint, ConditionType.READY) or {}).get("reason")
    phase = (checkpoint.get("status") or {}).get("phase")
    return (phase, reason) == (Phase.FAILED, CheckpointReason.WORKLOAD_GONE)


def job_name(checkpoint_id: str, version: str) -> str:
    """Name the capture Job: the same for the same artifact, so that no race can make two."""
    return f"checkpoint-job-{checkpoint_id}-{version}"


def captured_version(checkpoint: Mapping[str, Any], checkpoint_id: str | None) -> str:
    """Return the version that was captured, from the Job's name: the annotation may already ask for the next one.

    Raises:
        BadIdError: if it cannot be a version.
    """
    recorded = str((checkpoint.get("status") or {}).get("jobName") or "")
    version = recorded.removeprefix(job_name(checkpoint_id, "")) if checkpoint_id else recorded
    return artifact_version(checkpoint) if version == recorded else check_version(version)


def job_spec(checkpoint: Mapping[str, Any]) -> Json:
    """Return ``spec.job``, empty if the checkpoint has none."""
    return (checkpoint.get("spec") or {}).get("job") or {}


def source_pod(checkpoint: Mapping[str, Any]) -> Json:
    """Return ``spec.source``, the running pod that is captured; empty if a Job's pod is."""
    return (checkpoint.get("spec") or {}).get("source") or {}


def template(checkpoint: Mapping[str, Any]) -> Json:
    """Return ``spec.job.podTemplateSpec``, empty if the checkpoint has none."""
    return job_spec(checkpoint).get("podTemplateSpec") or {}


def job_target(checkpoint: Mapping[str, Any]) -> str:
    """Return the name of the container that is captured."""
    return job_spec(checkpoint).get("targetContainerName") or keys.DEFAULT_TARGET


def ready_signal(checkpoint: Mapping[str, Any]) -> ReadySignal:
    """Return the moment of capture that the checkpoint asks for."""
    usual = ReadySignal.PROBE if is_automatic(checkpoint) else ReadySignal.FILE
    return ReadySignal(job_spec(checkpoint).get("readySignal") or usual)


def settle_seconds(checkpoint: Mapping[str, Any]) -> int:
    """Return the seconds between ready and capture if the probes are the signal."""
    seconds = job_spec(checkpoint).get("settleSeconds")
    return DEFAULT_SETTLE_SECONDS if seconds is None else int(seconds)


def find_container(spec: Mapping[str, Any], name: str) -> Json | None:
    """Return the regular container of that name in a pod spec."""
    for container in spec.get("containers") or ():
        if container.get("name") == name:
            found: Json = container
            return found
    return None


def captured_container(checkpoint: Mapping[str, Any]) -> Json | None:
    """Return the template's target container, None if the template lacks it."""
    return find_container(template(checkpoint).get("spec") or {}, job_target(checkpoint))


def captured_image(checkpoint: Mapping[str, Any], values: Values) -> str:
    """Return the image that the capture runs: the template's, or the placeholder that the values map it to."""
    image = str((captured_container(checkpoint) or {}).get("image", ""))
    return values.placeholder.images.get(image, image)


def shared_memory_size(checkpoint: Mapping[str, Any]) -> str | None:
    """Return the size of the capture pod's memory volume at /dev/shm; None if the checkpoint wants none."""
    memory = job_spec(checkpoint).get("sharedMemory") or {}
    return None if memory.get("disabled") else str(memory.get("size") or keys.SHARED_MEMORY_SIZE)


def uses_gpu_memory_service(checkpoint: Mapping[str, Any]) -> bool:
    """Say whether the checkpoint asks for the GPU memory service, which no restore supports."""
    return bool(((checkpoint.get("spec") or {}).get("gpuMemoryService") or {}).get("enabled"))


def parse_targets(text: str) -> tuple[tuple[str, str], ...]:
    """Return the name of the captured container, empty if it is not said, and that of the target, for each target.

    ``engine-0,engine-1``, or ``main=engine-0,main=engine-1``.

    Raises:
        TargetError: if it is no such list.
    """
    found = []
    for part in text.split(","):
        captured, mark, name = part.rpartition("=")
        found.append((captured.strip(), name.strip()))
        if not name.strip() or (mark and not captured.strip()):
            raise TargetError(
                f"annotation {keys.ANN_TARGET_CONTAINERS} must be a comma-separated list of container names, or of "
                "CAPTURED=NAME"
            )
    return tuple(found)


def other_container(captured: str, checkpoint: Mapping[str, Any]) -> str | None:
    """Say that a pod is to continue another container than the one that was captured; None if it is that one.

    Args:
        captured: its name, as the pod says it; empty: it does not say.
        checkpoint: what the pod is restored from.
    """
    known = job_target(checkpoint)
    if captured in ("", known):
        return None
    return (
        f"annotation {keys.ANN_TARGET_CONTAINERS} names captured container {captured!r}, DynamoCheckpoint "
        f"{(checkpoint.get('metadata') or {}).get('name', '')} is of container {known!r}"
    )


def target_containers(pod: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of the containers to restore; see ``find_targets``.

    Raises:
        TargetError: as that does.
    """
    return tuple(target.name for target in find_targets(pod))


def find_targets(pod: Mapping[str, Any]) -> tuple[Target, ...]:
    """Return the containers to restore.

    The annotation, else ``main``, else the only container, else kubectl's default container, else the only one with a
    GPU.

    Raises:
        TargetError: if that gives nothing, or a name that the pod lacks, twice, or too long to report on.
    """
    containers = (pod.get("spec") or {}).get("containers") or ()
    names = [str(container.get("name", "")) for container in containers]
    said = annotations_of(pod).get(keys.ANN_TARGET_CONTAINERS)
    parts = tuple(("", name) for name in _default_target(pod, names)) if said is None else parse_targets(said)
    targets = [target for _, target in parts]
    if len(set(targets)) != len(targets):
        raise TargetError(f"annotation {keys.ANN_TARGET_CONTAINERS} names a container twice: {said}")
    for target in targets:
        check_target(target, names)
    places = map(names.index, targets)
    return tuple(
        [Target(place, containers[place], captured) for place, (captured, _) in zip(places, parts, strict=True)]
    )


def check_target(target: str, names: list[str]) -> None:
    """Say whether ``target`` is among the container names and short enough for the annotations that report on it.

    Raises:
        TargetError: if it is not.
    """
    if target not in names:
        raise TargetError(f"container {target!r} is not in the pod; it has: {', '.join(names) or 'none'}")
    if len(target) > keys.MAX_CONTAINER_NAME:
        raise TargetError(
            f"container name {target!r} is longer than {keys.MAX_CONTAINER_NAME} characters, "
            "so the annotations that report on it would not be valid; give it a shorter name"
        )


def _default_target(pod: Mapping[str, Any], names: list[str]) -> tuple[str, ...]:
    """Return the target of a pod that names none; ``main`` first, as the guides' manifests expect."""
    if keys.DEFAULT_TARGET in names:
        return (keys.DEFAULT_TARGET,)
    if len(names) == 1:
        return (names[0],)
    if (marked := annotations_of(pod).get(keys.ANN_DEFAULT_CONTAINER)) in names:
        return (str(marked),)
    with_gpus = [str(c.get("name")) for c in (pod.get("spec") or {}).get("containers") or () if gpu_count(c)]
    if len(with_gpus) == 1:
        return (with_gpus[0],)
    example = (with_gpus or names or [keys.DEFAULT_TARGET])[0]
    raise TargetError(
        f"the pod has more than one container, none of them is {keys.DEFAULT_TARGET!r}, marked by annotation "
        f"{keys.ANN_DEFAULT_CONTAINER}, or the only one with a GPU; name the target with annotation "
        f"{keys.ANN_TARGET_CONTAINERS}={example} (containers: {', '.join(names)})"
    )
