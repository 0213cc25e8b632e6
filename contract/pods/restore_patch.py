"""From an admitted pod to a pod that restores: JSON patch operations, built by hand because a request waits for them.

Each step looks at one part of the pod, and adds operations only where the part is not yet as it must be.
So shaping a shaped pod gives nothing, and what other controllers put into the pod stays as they put it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final

from contract.api import checkpoint as ckpt
from contract.api import keys
from contract.api.states import Admission
from contract.config.storage import Storage, artifact_path
from contract.nodes.gpus import gpu_count
from contract.pods import common
from contract.pods.canary import command_stamp
from contract.pods.device_memory import DeviceMemoryError, device_memory_library
from contract.pods.injected_tools import Tools, image_command
from contract.pods.startup_gate import startup_gate
from contract.pods.unshape import replaced_parts

Json = dict[str, Any]

STALE_ANNOTATIONS: Final = frozenset(
    {
        keys.ANN_RESTORE_CANDIDATE,
        keys.ANN_CHECKPOINT_NAME,
        keys.ANN_RESTORE_FROM,
        keys.ANN_STARTUP_POLICY,
        keys.ANN_CHECKPOINT_STATUS,
        keys.ANN_RESTORE_REPORT,
        keys.ANN_RESTORE_FILL,
        keys.ANN_RESTORE_ASKED,
        keys.ANN_WAKE,
        keys.ANN_GATE,
        keys.ANN_REQUEST,
        keys.ANN_CAPTURE,
        keys.ANN_CAPTURE_RESULT,
        "nvidia.com/snapshot-restore-status",
        "nvidia.com/snapshot-restore-container-id",
    }
)
"""Spent requests and the remains of an earlier life of the pod's manifest."""
_STALE_PREFIXES: Final = (keys.ANN_RESTORE_STATUS_PREFIX, keys.ANN_RESTORE_CONTAINER_ID_PREFIX)
_STORAGE_TYPE: Final = "pvc"
_POINTERS: Final = 128
"""Paths remembered: those of the labels and annotations that we write, which are few."""
_SHAPED: Final = Admission.RESTORE_SHAPED.value
_HELD: Final = Admission.HELD.value


@dataclass(frozen=True)
class Restore:
    """What a pod is to be restored from, and how."""

    checkpoint: str
    """Name of the DynamoCheckpoint."""
    checkpoint_id: str
    version: str
    storage: Storage
    seccomp_profile: str | None
    """Localhost profile; None: the pod's own stays."""
    node_affinity: str = "Required"
    image: str | None = None
    """The image that was captured; None: the pod's own stays."""
    pull_secrets: tuple[str, ...] = ()
    """Names of the captured template's image pull secrets."""
    shared_memory: str | None = None
    """Size of the memory volume that capture had at /dev/shm; empty: no limit, None: it had none."""
    tools: Tools | None = None
    """What the targets' image lacks; None: it has standby built in."""
    image_config: Mapping[str, Any] = field(default_factory=dict)
    """``status.image``: what a stock image would run."""
    held: bool = False
    """Whether the pod waits for the checkpoint behind a scheduling gate."""
    serves: bool = False
    """Whether nothing is restored: the pod's own worker starts, so that it can be captured while it runs."""
    device_memory: str = "Image"
    """The chart's ``capture.deviceMemory``, for a worker that is captured while it runs."""
    waits: bool = False
    """Whether it is a placeholder: its standby waits for a checkpoint that is named later."""
    parks: bool = False
    """Whether its worker, once it is restored, is stopped until it is woken."""
    spare: bool = False
    """Whether that is so for its checkpoint, and not by its own template: the controller wakes it."""
    stamp: str = ""
    """Template hash of an automatic pod; empty: it restores by name."""
    labels: Mapping[str, str] = field(init=False)

    def __post_init__(self) -> None:
        wanted = {keys.LABEL_IS_RESTORE_TARGET: "true", keys.LABEL_CHECKPOINT_ID: self.checkpoint_id}
        if self.serves:
            wanted = {}
        if self.waits:
            del wanted[keys.LABEL_CHECKPOINT_ID]
        object.__setattr__(self, "labels", wanted)


def restore_operations(pod: Mapping[str, Any], restore: Restore, targets: Sequence[ckpt.Target]) -> list[Json]:
    """JSON patch operations (RFC 6902) that mutate ``pod`` for a restore; none if it is mutated already.

    Raises:
        MountTakenError: where a mount path that is needed belongs to another volume.
        EntrypointUnknownError: where the command of a stock image is needed and not known.
    """
    operations = _metadata_operations(pod, restore, targets)
    volumes: list[Json] = []
    for target in targets:
        operations += _container_operations(pod, target, restore, volumes)
    return operations + _spec_operations(pod["spec"], restore, volumes)


def annotation_operations(metadata: Mapping[str, Any], wanted: Mapping[str, str], *unwanted: str) -> list[Json]:
    """Operations that set annotations, also on an object that has none, and remove the unwanted ones."""
    present = metadata.get("annotations") or {}
    return _map_operations("/metadata/annotations", present, wanted, present.keys() & set(unwanted))


def escape(key: str) -> str:
    """Return ``key`` as part of a JSON pointer."""
    return key.replace("~", "~0").replace("/", "~1")


@lru_cache(_POINTERS)
def _pointer(path: str, key: str) -> str:
    return f"{path}/{escape(key)}"


def _metadata_operations(pod: Mapping[str, Any], restore: Restore, targets: Sequence[ckpt.Target]) -> list[Json]:
    metadata: Mapping[str, Any] = pod.get("metadata") or {}
    labels = metadata.get("labels")
    old = {keys.LABEL_IS_SOURCE, keys.LABEL_OUTCOME} & (labels or {}).keys()
    annotations: Mapping[str, str] = metadata.get("annotations") or {}
    stale = {key for key in annotations if key in STALE_ANNOTATIONS or key.startswith(_STALE_PREFIXES)}
    wanted = {
        keys.ANN_ARTIFACT_VERSION: restore.version,
        keys.ANN_TARGET_CONTAINERS: ",".join(target.name for target in targets),
        keys.ANN_CHECKPOINT: restore.checkpoint,
        keys.ANN_ADMISSION: _HELD if restore.held else _SHAPED,
    }
    if restore.waits:
        # What is restored is named later. The request stays: it says whose shape the pod has.
        wanted[keys.ANN_ADMISSION] = Admission.PLACEHOLDER.value
        del wanted[keys.ANN_ARTIFACT_VERSION], wanted[keys.ANN_CHECKPOINT]
        stale |= {keys.ANN_ARTIFACT_VERSION, keys.ANN_CHECKPOINT} & annotations.keys()
        stale -= {keys.ANN_CHECKPOINT_NAME, keys.ANN_RESTORE_FROM}
    if restore.serves:
        wanted[keys.ANN_ADMISSION] = Admission.CAPTURABLE.value
        del wanted[keys.ANN_ARTIFACT_VERSION]
    elif keys.LABEL_IS_RESTORE_TARGET not in (labels or {}):
        if note := replaced_parts(pod["spec"], targets):
            wanted[keys.ANN_REPLACED] = note
        else:
            stale |= {keys.ANN_REPLACED} & annotations.keys()
    if restore.spare and not restore.serves:
        wanted[keys.ANN_SPARE] = "true"
    else:
        stale |= {keys.ANN_SPARE} & annotations.keys()
    if restore.stamp:
        wanted[keys.ANN_TEMPLATE_HASH] = restore.stamp
    if restore.storage.in_pod:
        wanted[keys.ANN_STORAGE_TYPE] = _STORAGE_TYPE
        wanted[keys.ANN_STORAGE_BASE_PATH] = restore.storage.base_path
    else:
        stale |= {keys.ANN_STORAGE_TYPE, keys.ANN_STORAGE_BASE_PATH} & annotations.keys()
    return _map_operations("/metadata/labels", labels, restore.labels, old) + _map_operations(
        "/metadata/annotations", annotations, wanted, stale
    )


def _map_operations(
    path: str, present: Mapping[str, str] | None, wanted: Mapping[str, str], unwanted: set[str]
) -> list[Json]:
    if not present:
        return [{"op": "add", "path": path, "value": dict(wanted)}]
    operations: list[Json] = [{"op": "remove", "path": f"{path}/{escape(key)}"} for key in sorted(unwanted)]
    for key, value in wanted.items():
        if present.get(key) != value:
            operations.append({"op": "add", "path": _pointer(path, key), "value": value})
    return operations


def _container_operations(
    pod: Mapping[str, Any], target: ckpt.Target, restore: Restore, volumes: list[Json]
) -> list[Json]:
    """Operations for one target; the volumes that its new mounts need are added to ``volumes``."""
    container = target.container
    path = f"/spec/containers/{target.place}"
    directory = common.control_dir(container)
    operations: list[Json] = []
    if restore.image is not None and container.get("image") != restore.image:
        operations += _image_operations(pod, container, path, restore.image)
    operations += _command_operations(container, path, restore)
    wanted = _serving_environment(pod, container, restore) if restore.serves else _environment(pod, container, restore)
    operations += _env_operations(container.get("env"), path, wanted, directory)
    canary = keys.ANN_CANARY in ckpt.annotations_of(pod)
    gate = startup_gate(container, directory, canary=canary, waits=restore.waits or restore.parks)
    if gate is not None and container.get("startupProbe") != gate and not restore.serves:
        operations.append({"op": "add", "path": f"{path}/startupProbe", "value": gate})
    return operations + _mount_operations(container, path, restore, volumes)


def _image_operations(pod: Mapping[str, Any], container: Mapping[str, Any], path: str, image: str) -> list[Json]:
    key = keys.ANN_ORIGINAL_IMAGE_PREFIX + container["name"]
    operations: list[Json] = [{"op": "add", "path": f"{path}/image", "value": image}]
    if key not in ckpt.annotations_of(pod):
        # Annotations exist by now: the operations on metadata come first.
        note = f"/metadata/annotations/{escape(key)}"
        operations.append({"op": "add", "path": note, "value": container.get("image", "")})
    return operations


def _command_operations(container: Mapping[str, Any], path: str, restore: Restore) -> list[Json]:
    command: list[str] = container.get("command") or []
    if command and command[0] == keys.STANDBY:
        mode = [] if restore.serves else _mode(restore)
        if not mode or mode == command[1:2]:
            return []
        return [{"op": "add", "path": f"{path}/command/1", "value": mode[0]}]
    operations: list[Json] = []
    standby = [keys.STANDBY, *_mode(restore)]
    wrapped = [*standby, "--", *command]
    if not command and restore.tools is None:
        wrapped = [*standby, keys.STANDBY_IMAGE_ENTRYPOINT, "--"]
    elif not command:
        # A stock image has no record of its own that standby could read.
        entrypoint, args = image_command(container, restore.image_config)
        wrapped += entrypoint
        if args and args != container.get("args"):
            operations.append({"op": "add", "path": f"{path}/args", "value": args})
    return [{"op": "add", "path": f"{path}/command", "value": wrapped}, *operations]


def _mode(restore: Restore) -> list[str]:
    """Return standby's word for what it does, if it is not simply to restore."""
    modes = (
        (restore.serves, keys.STANDBY_SERVE),
        (restore.waits, keys.STANDBY_WAIT),
        (restore.parks, keys.STANDBY_PARK),
    )
    return [word for is_so, word in modes if is_so][:1]


def _serving_environment(pod: Mapping[str, Any], container: Mapping[str, Any], restore: Restore) -> dict[str, str]:
    with suppress(DeviceMemoryError):  # a capture by a Job says what is wrong with it
        if library := device_memory_library(pod, gpu_count(container), restore.device_memory):
            return {keys.ENV_DEVICE_MEMORY: library}
    return {}


def _environment(pod: Mapping[str, Any], container: Mapping[str, Any], restore: Restore) -> dict[str, str]:
    wanted = {
        keys.ENV_RESTORE_STANDBY: "1",
        # A container may have a policy of its own, which then counts.
        keys.ENV_STANDBY_RESTART_POLICY: container.get("restartPolicy") or pod["spec"].get("restartPolicy") or "Always",
    }
    wanted |= command_stamp(pod)
    if not restore.waits:
        wanted |= _artifact_environment(restore)
    if ckpt.annotations_of(pod).get(keys.ANN_POLICY) == keys.POLICY_REQUIRE:
        wanted[keys.ENV_STANDBY_POLICY] = keys.POLICY_REQUIRE
    return wanted


def _artifact_environment(restore: Restore) -> dict[str, str]:
    directory = artifact_path(restore.storage.base_path, restore.checkpoint_id, restore.version)
    return {
        keys.ENV_STANDBY_ID: restore.checkpoint_id,
        keys.ENV_CHECKPOINT_STORAGE_TYPE: _STORAGE_TYPE,
        keys.ENV_CHECKPOINT_LOCATION: directory,
        keys.ENV_CHECKPOINT_PATH: directory,
        keys.ENV_CHECKPOINT_HASH: restore.checkpoint_id,
    }


def _env_operations(env: list[Json] | None, path: str, wanted: dict[str, str], directory: str) -> list[Json]:
    present = {entry.get("name"): index for index, entry in enumerate(env or ())}
    operations: list[Json] = []
    added: list[Json] = []
    if keys.ENV_CONTROL_DIR not in present:
        added.append({"name": keys.ENV_CONTROL_DIR, "value": directory})
    for name, value in wanted.items():
        entry = {"name": name, "value": value}
        if name not in present:
            added.append(entry)
        elif env is not None and env[present[name]] != entry:
            operations.append({"op": "replace", "path": f"{path}/env/{present[name]}", "value": entry})
    return operations + _append_operations(f"{path}/env", env, added)


def _mount_operations(container: Mapping[str, Any], path: str, restore: Restore, volumes: list[Json]) -> list[Json]:
    mounts: list[Json] | None = container.get("volumeMounts")
    wanted = [(common.control_volume(), common.control_mount(container))]
    if restore.storage.in_pod:
        mount = {"name": keys.STORAGE_VOLUME, "mountPath": restore.storage.base_path, "readOnly": True}
        wanted.append((common.storage_volume(restore.storage.pvc_name), mount))
    if restore.shared_memory is not None and not common.mounted_at(container, keys.SHARED_MEMORY_DIR):
        mount = {"name": keys.SHARED_MEMORY_VOLUME, "mountPath": keys.SHARED_MEMORY_DIR}
        wanted.append((common.shared_memory_volume(restore.shared_memory), mount))
    if restore.tools is not None:
        wanted.append((restore.tools.volume, restore.tools.mount))
    volumes += [volume for volume, _ in wanted]
    added = [mount for _, mount in wanted if not common.has_named(mounts, mount["name"])]
    for mount in added:
        common.check_mount(container, mount)
    return _append_operations(f"{path}/volumeMounts", mounts, added)


def _spec_operations(spec: Mapping[str, Any], restore: Restore, volumes: list[Json]) -> list[Json]:
    added: list[Json] = []
    for volume in volumes:
        if not common.has_named(spec.get("volumes"), volume["name"]) and volume not in added:
            added.append(volume)
    operations = _append_operations("/spec/volumes", spec.get("volumes"), added)
    operations += _pull_operations(spec.get("imagePullSecrets"), restore)
    if restore.tools is not None and restore.tools.init is not None:
        operations += _init_operations(spec.get("initContainers"), restore.tools.init)
    if restore.held and not restore.serves and not common.has_named(spec.get("schedulingGates"), keys.SCHEDULING_GATE):
        gate = {"name": keys.SCHEDULING_GATE}
        operations += _append_operations("/spec/schedulingGates", spec.get("schedulingGates"), [gate])
    operations += _seccomp_operations(spec.get("securityContext"), restore.seccomp_profile)
    affinity = common.on_ready_nodes(spec.get("affinity"), restore.node_affinity)
    if affinity != (spec.get("affinity") or {}):
        operations.append({"op": "add", "path": "/spec/affinity", "value": affinity})
    return operations


def _pull_operations(present: list[Json] | None, restore: Restore) -> list[Json]:
    wanted = (*restore.pull_secrets, *(restore.tools.pull_secrets if restore.tools is not None else ()))
    if not wanted:
        return []
    missing = [{"name": name} for name in dict.fromkeys(wanted) if not common.has_named(present, name)]
    return _append_operations("/spec/imagePullSecrets", present, missing)


def _init_operations(present: list[Json] | None, init: Json) -> list[Json]:
    """First of all: another init container may take its time, or never end."""
    if common.has_named(present, init["name"]):
        return []
    if not present:
        return [{"op": "add", "path": "/spec/initContainers", "value": [init]}]
    return [{"op": "add", "path": "/spec/initContainers/0", "value": init}]


def _seccomp_operations(context: Mapping[str, Any] | None, profile: str | None) -> list[Json]:
    if profile is None:
        return []
    wanted = {"type": "Localhost", "localhostProfile": profile}
    if context is None:
        return [{"op": "add", "path": "/spec/securityContext", "value": {"seccompProfile": wanted}}]
    if context.get("seccompProfile") == wanted:
        return []
    return [{"op": "add", "path": "/spec/securityContext/seccompProfile", "value": wanted}]


def _append_operations(path: str, present: list[Json] | None, added: list[Json]) -> list[Json]:
    if not added:
        return []
    if not present:
        return [{"op": "add", "path": path, "value": added}]
    return [{"op": "add", "path": f"{path}/-", "value": item} for item in added]
