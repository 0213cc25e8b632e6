"""From a DynamoCheckpoint to its capture Job.

The pod is the user's template plus what a capture needs: standby around the target's command, the control directory,
the moment of capture, checkpoint storage. What only a serving pod needs is taken out, so that nothing routes to it,
counts it or evicts others for it. Containers beside the target become sidecars, because the Job has to complete
when the target has been captured, however long the others run.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, Final

from contract.api import checkpoint as ckpt
from contract.api import control_files, keys
from contract.api.states import ReadySignal
from contract.config.storage import BadIdError, check_id
from contract.nodes.accelerators import refused_resource
from contract.nodes.gpus import NO_TEMPLATES, ClaimTemplates, refused_claim, total_gpus
from contract.pods import common
from contract.pods.canary import CanaryError, canary_call, command_stamp
from contract.pods.capture_metadata import pod_metadata, write_out_labels
from contract.pods.device_memory import DeviceMemoryError, device_memory_library
from contract.pods.injected_tools import Tools, file_probe, tools_for
from contract.pods.probe import keep_probe
from contract.pods.systems import other_system
from contract.pods.template_hash import OUR_ENVIRONMENT
from contract.pods.weights import WeightsError, refers_to_weights

if TYPE_CHECKING:
    from collections.abc import Mapping

    from contract.config.storage import Storage
    from contract.config.values import Values

Json = dict[str, Any]

MAX_JOB_NAME: Final = 63
"""The Job's name becomes a label value on its pods."""
_SPEC: Final = "spec.job.podTemplateSpec.spec"

MESH_CONTAINERS: Final = frozenset(
    {
        "istio-proxy",
        "istio-init",
        "istio-validation",
        "linkerd-proxy",
        "linkerd-init",
        "linkerd-network-validator",
        "kuma-sidecar",
        "kuma-init",
        "consul-dataplane",
        "consul-connect-inject-init",
    }
)

_DROPPED: Final = (
    "nodeName",
    "priority",
    "priorityClassName",
    "preemptionPolicy",
    "schedulingGates",
    "topologySpreadConstraints",
    "activeDeadlineSeconds",
    "ephemeralContainers",
)
"""A capture waits its turn, anywhere, and never preempts the workers it is made for; its Job has a deadline of its own;
no new pod may have the last."""
_HOST_PORT: Final = ("hostPort", "hostIP")
_OWN_RESTARTS: Final = ("restartPolicy", "restartPolicyRules")
"""A container's own rules in place of the pod's; a capture is one attempt, and ends when the target has ended."""


class InvalidTemplateError(ValueError):
    """No Job can be made from the checkpoint; ``field`` is the path of what is wrong, ``message`` says what to do."""

    def __init__(self, field: str, message: str) -> None:
        self.field = field
        self.message = message
        super().__init__(f"{field}: {message}")


class UnsupportedAcceleratorError(InvalidTemplateError):
    """The target asks for devices whose state is not captured."""


def build_capture_job(
    checkpoint: Mapping[str, Any], *, values: Values, storage: Storage, templates: ClaimTemplates = NO_TEMPLATES
) -> Json:
    """Build the capture Job of a checkpoint, single-attempt, owned by it.

    Args:
        checkpoint: what is captured.
        values: the chart's values.
        storage: the checkpoint volume.
        templates: those that the target's claims for devices are made from.

    Raises:
        ShapeError: where the checkpoint cannot be captured as it is written.
    """
    checkpoint_id, version = _artifact(checkpoint)
    name = ckpt.job_name(checkpoint_id, version)
    if len(name) > MAX_JOB_NAME:
        raise InvalidTemplateError(
            f"metadata.annotations[{keys.ANN_ARTIFACT_VERSION}]",
            f"Job name {name!r} has {len(name)} characters, at most {MAX_JOB_NAME} fit; shorten the version",
        )
    metadata: Json = {
        "name": name,
        "namespace": checkpoint["metadata"].get("namespace", ""),
        "labels": {keys.LABEL_CHECKPOINT_ID: checkpoint_id, keys.LABEL_LEGACY_SOURCE: "true"},
        "annotations": {keys.ANN_CHECKPOINT: checkpoint["metadata"]["name"]},
    }
    if owner := _owner(checkpoint["metadata"]):
        metadata["ownerReferences"] = [owner]
    spec = {
        "backoffLimit": 0,
        "activeDeadlineSeconds": ckpt.job_spec(checkpoint).get("activeDeadlineSeconds")
        or keys.DEFAULT_ACTIVE_DEADLINE_SECONDS,
        "ttlSecondsAfterFinished": keys.JOB_TTL_SECONDS,
        "template": _pod_template(checkpoint, (checkpoint_id, version), values, storage, templates),
    }
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": spec}


def _artifact(checkpoint: Mapping[str, Any]) -> tuple[str, str]:
    try:
        checkpoint_id = ckpt.resolve_id(checkpoint)
    except BadIdError as error:
        raise InvalidTemplateError(f"metadata.labels[{keys.LABEL_CHECKPOINT_ID}]", str(error)) from error
    if checkpoint_id is None:
        raise InvalidTemplateError("spec.identity.model", "is needed to compute the checkpoint id; set it")
    try:
        return check_id(checkpoint_id), ckpt.artifact_version(checkpoint)
    except BadIdError as error:
        raise InvalidTemplateError(f"metadata.annotations[{keys.ANN_ARTIFACT_VERSION}]", str(error)) from error


def _owner(metadata: Mapping[str, Any]) -> Json | None:
    if not metadata.get("uid"):
        return None
    return {
        "apiVersion": keys.API_VERSION,
        "kind": keys.CHECKPOINT_KIND,
        "name": metadata["name"],
        "uid": metadata["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }


def _pod_template(
    checkpoint: Mapping[str, Any],
    artifact: tuple[str, str],
    values: Values,
    storage: Storage,
    templates: ClaimTemplates,
) -> Json:
    template = ckpt.template(checkpoint)
    spec = copy.deepcopy(template.get("spec") or {})
    target = _target(checkpoint, spec)
    gpus = total_gpus(spec, target, templates)
    _refuse(checkpoint, spec, target)
    _refuse_accelerators(spec, target, templates)
    _shape_pod(spec, target, values)
    _as_no_replica(spec, ckpt.labels_of(template))
    _shape_target(checkpoint, spec, target, values, gpus)
    if storage.in_pod:
        _mount_storage(spec, target, storage)
    metadata = pod_metadata(checkpoint, *artifact, storage, values.capture.keep_labels)
    return {"metadata": metadata, "spec": spec}


def _target(checkpoint: Mapping[str, Any], spec: Mapping[str, Any]) -> Json:
    names = [str(container.get("name", "")) for container in spec.get("containers") or ()]
    if not names:
        raise InvalidTemplateError(
            "spec.job.podTemplateSpec.spec.containers", "at least one container is needed; add the worker"
        )
    name = ckpt.job_target(checkpoint)
    try:
        ckpt.check_target(name, names)
    except ckpt.TargetError as error:
        raise InvalidTemplateError("spec.job.targetContainerName", str(error)) from error
    found: Json = next(container for container in spec["containers"] if container.get("name") == name)
    return found


def _refuse(checkpoint: Mapping[str, Any], spec: Mapping[str, Any], target: Mapping[str, Any]) -> None:
    if ckpt.uses_gpu_memory_service(checkpoint):
        raise InvalidTemplateError(
            "spec.gpuMemoryService.enabled", "is not supported together with checkpoints; set it to false"
        )
    if problem := other_system(spec) or common.unsupported(spec):
        raise InvalidTemplateError(f"{_SPEC}.{problem[0]}", problem[1])
    _refuse_canary(ckpt.template(checkpoint), target)
    probes = target.get("startupProbe") or target.get("readinessProbe")
    if ckpt.ready_signal(checkpoint) == ReadySignal.PROBE and not probes:
        raise InvalidTemplateError(
            "spec.job.readySignal",
            f"no-ready-signal: Probe needs a startup or readiness probe on container {target['name']!r}; "
            "add one, or use File and let the worker write the ready file",
        )


def _refuse_canary(template: Mapping[str, Any], target: Mapping[str, Any]) -> None:
    try:
        canary_call(template, str(target.get("name", "")))
    except CanaryError as error:
        path = f"spec.job.podTemplateSpec.metadata.annotations[{keys.ANN_CANARY}]"
        raise InvalidTemplateError(path, str(error)) from error


def _refuse_accelerators(spec: Mapping[str, Any], target: Mapping[str, Any], templates: ClaimTemplates) -> None:
    if problem := refused_resource(target):
        raise UnsupportedAcceleratorError(f"{_SPEC}.containers[{target['name']}].{problem[0]}", problem[1])
    if problem := refused_claim(spec, target, templates):
        raise UnsupportedAcceleratorError(f"{_SPEC}.resourceClaims", f"ResourceClaimTemplate {' '.join(problem)}")


def _shape_pod(spec: Json, target: Json, values: Values) -> None:
    for field in _DROPPED:
        spec.pop(field, None)
    spec["restartPolicy"] = "Never"
    spec["readinessGates"] = _with(spec.get("readinessGates"), {"conditionType": keys.READINESS_GATE_SOURCE})
    if not values.checkpoint.seccomp.disabled:
        profile = {"type": "Localhost", "localhostProfile": values.checkpoint.seccomp.profile}
        spec["securityContext"] = {**(spec.get("securityContext") or {}), "seccompProfile": profile}
    # On which nodes a worker can run counts for its capture; beside which pods replicas run does not.
    own = {kind: said for kind, said in (spec.pop("affinity", None) or {}).items() if kind == "nodeAffinity"}
    if affinity := common.on_ready_nodes(own, values.admission.node_affinity):
        spec["affinity"] = affinity
    beside = [c for c in spec["containers"] if c is not target and c.get("name") not in MESH_CONTAINERS]
    first = [c for c in spec.get("initContainers") or () if c.get("name") not in MESH_CONTAINERS]
    spec["containers"] = [target]
    if inits := first + [_as_sidecar(container) for container in beside]:
        spec["initContainers"] = inits
    else:
        spec.pop("initContainers", None)


def _as_no_replica(spec: Mapping[str, Any], labels: Mapping[str, str]) -> None:
    """Take out of all containers what a serving replica claims, and write out what they read of its labels."""
    containers = [*spec["containers"], *(spec.get("initContainers") or ())]
    for container in containers:
        # A capture pod serves no client by its node, and the port is taken where a replica serves.
        for port in container.get("ports") or ():
            for field in _HOST_PORT:
                port.pop(field, None)
    write_out_labels(containers, labels)


def _as_sidecar(container: Json) -> Json:
    """Have a container run beside the target and end with it, without probes that might wait for the target."""
    dropped = ("startupProbe", "livenessProbe", *_OWN_RESTARTS)
    return {key: value for key, value in container.items() if key not in dropped} | {"restartPolicy": "Always"}


def _shape_target(checkpoint: Mapping[str, Any], spec: Json, target: Json, values: Values, gpus: int) -> None:
    target["image"] = ckpt.captured_image(checkpoint, values)
    directory = common.control_dir(target)
    for field in _OWN_RESTARTS:
        target.pop(field, None)
    _command(target)
    tools = tools_for(checkpoint, target["image"], values, capture=True)
    kept = _keep_probe(target, ckpt.ready_signal(checkpoint))
    _probes(target, directory, ckpt.ready_signal(checkpoint), stock=tools is not None)
    env = [e for e in target.get("env") or () if e.get("name") not in OUR_ENVIRONMENT]
    if not common.has_named(env, keys.ENV_CONTROL_DIR):
        env.append({"name": keys.ENV_CONTROL_DIR, "value": directory})
    env.append({"name": keys.ENV_CHECKPOINT_SIGNAL_FILE, "value": f"{directory}/{control_files.SNAPSHOT_COMPLETE}"})
    library = _device_memory(checkpoint, gpus, values)
    if library is not None:
        env.append({"name": keys.ENV_DEVICE_MEMORY, "value": library})
    stamps = command_stamp(ckpt.template(checkpoint)) | kept
    env += [{"name": name, "value": value} for name, value in stamps.items()]
    for name, value in _gpu_environment(values, gpus, outside=library is not None).items():
        if value is not None and not common.has_named(env, name):
            env.append({"name": name, "value": value})
    target["env"] = env
    _mount(spec, target, common.control_volume(), common.control_mount(target))
    _shared_memory(checkpoint, spec, target)
    if tools is not None:
        _bring_tools(spec, target, tools)


def _device_memory(checkpoint: Mapping[str, Any], gpus: int, values: Values) -> str | None:
    name = keys.ANN_WEIGHTS
    try:
        refers_to_weights(ckpt.template(checkpoint))  # by the agent, on the node
        name = keys.ANN_DEVICE_MEMORY
        return device_memory_library(ckpt.template(checkpoint), gpus, values.capture.device_memory)
    except (DeviceMemoryError, WeightsError) as error:
        raise InvalidTemplateError(f"spec.job.podTemplateSpec.metadata.annotations[{name}]", str(error)) from error


def _gpu_environment(values: Values, gpus: int, *, outside: bool) -> Mapping[str, str | None]:
    settings = values.capture.gpu_environment
    if gpus > 1:
        return settings.always | settings.several_gpus | ({} if outside else settings.several_gpus_in_image)
    return settings.always if gpus else {}


def _bring_tools(spec: Json, target: Json, tools: Tools) -> None:
    _mount(spec, target, tools.volume, tools.mount)
    if tools.init is not None:
        # A template taken from a shaped pod has one already, perhaps of an earlier release.
        others = [each for each in spec.get("initContainers") or () if each.get("name") != tools.init["name"]]
        spec["initContainers"] = [tools.init, *others]
    for name in tools.pull_secrets:
        spec["imagePullSecrets"] = _with(spec.get("imagePullSecrets"), {"name": name})


def _command(target: Json) -> None:
    # Without standby's own, in a template taken from a shaped pod.
    own = common.own_command(target.get("command") or ())
    of_image = [] if own else [keys.STANDBY_IMAGE_ENTRYPOINT]
    target["command"] = [keys.STANDBY, "--capture", *of_image, "--", *own]


def _keep_probe(target: Mapping[str, Any], signal: ReadySignal) -> dict[str, str]:
    """Return the environment that keeps for the proof what the ready file's probe is about to replace."""
    try:
        return keep_probe(target) if signal == ReadySignal.FILE else {}
    except (AttributeError, TypeError, ValueError) as error:
        path = f"{_SPEC}.containers[{target['name']}].readinessProbe"
        words = "it or the startupProbe is not of Kubernetes' shape; kubectl explain pod.spec.containers.readinessProbe"
        raise InvalidTemplateError(path, f"{words} shows it") from error


def _probes(target: Json, directory: str, signal: ReadySignal, *, stock: bool) -> None:
    # A liveness probe would kill the worker while it is frozen.
    target.pop("livenessProbe", None)
    if signal == ReadySignal.FILE:
        target.pop("startupProbe", None)
        ready = file_probe(directory, control_files.READY_FOR_SNAPSHOT, stock=stock)
        target["readinessProbe"] = ready | {"periodSeconds": 1}


def _shared_memory(checkpoint: Mapping[str, Any], spec: Json, target: Json) -> None:
    size = ckpt.shared_memory_size(checkpoint)
    if size is None or common.mounted_at(target, keys.SHARED_MEMORY_DIR):
        return
    mount = {"name": keys.SHARED_MEMORY_VOLUME, "mountPath": keys.SHARED_MEMORY_DIR}
    _mount(spec, target, common.shared_memory_volume(size), mount)


def _mount_storage(spec: Json, target: Json, storage: Storage) -> None:
    mount = {"name": keys.STORAGE_VOLUME, "mountPath": storage.base_path}
    _mount(spec, target, common.storage_volume(storage.pvc_name), mount)


def _mount(spec: Json, target: Json, volume: Json, mount: Json) -> None:
    """Add volume and mount, each only where none of that name exists: the template's own word counts."""
    if not common.has_named(spec.get("volumes"), volume["name"]):
        spec["volumes"] = [*(spec.get("volumes") or ()), volume]
    if not common.has_named(target.get("volumeMounts"), mount["name"]):
        try:
            common.check_mount(target, mount)
        except common.MountTakenError as error:
            path = f"spec.job.podTemplateSpec.spec.containers[{target['name']}].volumeMounts"
            raise InvalidTemplateError(path, str(error)) from error
        target["volumeMounts"] = [*(target.get("volumeMounts") or ()), mount]


def _with(items: list[Json] | None, item: Json) -> list[Json]:
    present = list(items or ())
    return present if item in present else [*present, item]
