"""From a pod that admission mutated for a restore back to the pod that came in.

Another webhook may change the pod after ours, and what it changed may be what keeps the pod from being restored: then
all that we wrote has to go, and all that others wrote has to stay. Most of ours is known by its name. What is not, and
what was replaced, is noted on the pod when it is mutated.
"""

from __future__ import annotations

import copy
import json
from typing import TYPE_CHECKING, Any, Final

from contract.api import checkpoint as ckpt
from contract.api import keys
from contract.pods import common
from contract.pods.template_hash import OUR_ENVIRONMENT, OUR_VOLUMES

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

Json = dict[str, Any]

_LABELS: Final = (keys.LABEL_CHECKPOINT_ID, keys.LABEL_IS_RESTORE_TARGET)
_ANNOTATIONS: Final = (
    keys.ANN_ADMISSION,
    keys.ANN_CHECKPOINT,
    keys.ANN_ARTIFACT_VERSION,
    keys.ANN_STORAGE_TYPE,
    keys.ANN_STORAGE_BASE_PATH,
    keys.ANN_TEMPLATE_HASH,
    keys.ANN_REPLACED,
    keys.ANN_SPARE,
)
_PROBES: Final = "startupProbes"
_SECCOMP: Final = "seccompProfile"
_VOLUMES: Final = "volumes"


def replaced_parts(spec: Mapping[str, Any], targets: Sequence[ckpt.Target]) -> str:
    """Return the note of what of a pod will be replaced, or looks like ours; empty if there is nothing of that."""
    probes = {each.name: each.container["startupProbe"] for each in targets if each.container.get("startupProbe")}
    found = {
        _PROBES: probes,
        _SECCOMP: (spec.get("securityContext") or {}).get("seccompProfile"),
        _VOLUMES: [each["name"] for each in spec.get("volumes") or () if each.get("name") in OUR_VOLUMES],
    }
    said = {key: part for key, part in found.items() if part}
    return json.dumps(said, separators=(",", ":")) if said else ""


def unshaped(pod: Mapping[str, Any]) -> Json:
    """Return a mutated pod as it would be without us; the argument stays as it is."""
    result: Json = copy.deepcopy(dict(pod))
    metadata, spec = result["metadata"], result["spec"]
    annotations: dict[str, str] = metadata.get("annotations") or {}
    note = _note(annotations.get(keys.ANN_REPLACED, ""))
    ours = OUR_VOLUMES - set(note[_VOLUMES])
    targets = annotations.get(keys.ANN_TARGET_CONTAINERS, "").split(",")
    for container in spec.get("containers") or ():
        if container.get("name") in targets:
            _unshape_container(container, annotations, note[_PROBES].get(container["name"]), ours)
    _without(spec, "volumes", ours)
    _without(spec, "initContainers", {keys.TOOLS_VOLUME})
    _without(spec, "schedulingGates", {keys.SCHEDULING_GATE})
    _unshape_security(spec, note[_SECCOMP])
    affinity = common.off_ready_nodes(spec.pop("affinity", None))
    if affinity:
        spec["affinity"] = affinity
    _unshape_metadata(metadata, annotations)
    return result


def _note(text: str) -> Json:
    """Return the note, empty as far as it is not one of ours: any client may write annotations."""
    try:
        raw = json.loads(text) if text else {}
    except (ValueError, RecursionError):
        raw = {}
    said: Json = raw if isinstance(raw, dict) else {}
    probes, volumes, profile = said.get(_PROBES), said.get(_VOLUMES), said.get(_SECCOMP)
    return {
        _PROBES: probes if isinstance(probes, dict) else {},
        _VOLUMES: [name for name in volumes if isinstance(name, str)] if isinstance(volumes, list) else [],
        _SECCOMP: profile if isinstance(profile, dict) else None,
    }


def _unshape_container(container: Json, annotations: Mapping[str, str], probe: Any, ours: frozenset[str]) -> None:  # noqa: ANN401 - as it was noted
    image = annotations.get(keys.ANN_ORIGINAL_IMAGE_PREFIX + container["name"])
    if image:
        container["image"] = image
    container["command"] = common.own_command(container.get("command") or ())
    env = container.get("env") or ()
    container["env"] = [each for each in env if each.get("name") not in OUR_ENVIRONMENT and not _is_control_dir(each)]
    for field in ("command", "env"):
        if not container.get(field):
            container.pop(field, None)
    _without(container, "volumeMounts", ours)
    container.pop("startupProbe", None)
    if isinstance(probe, dict):
        container["startupProbe"] = probe


def _is_control_dir(entry: Mapping[str, Any]) -> bool:
    return entry.get("name") == keys.ENV_CONTROL_DIR and entry.get("value") == keys.CONTROL_DIR


def _without(owner: Json, field: str, names: Collection[str]) -> None:
    """Take items out of a list by their names, and the list with the last of them."""
    kept = [each for each in owner.get(field) or () if each.get("name") not in names]
    if kept:
        owner[field] = kept
    else:
        owner.pop(field, None)


def _unshape_security(spec: Json, profile: Json | None) -> None:
    context = spec.get("securityContext")
    if profile is not None:
        spec["securityContext"] = {**(context or {}), "seccompProfile": profile}
    elif context and (context.get("seccompProfile") or {}).get("type") == "Localhost":
        del context["seccompProfile"]


def _unshape_metadata(metadata: Json, annotations: Mapping[str, str]) -> None:
    labels = {key: value for key, value in (metadata.get("labels") or {}).items() if key not in _LABELS}
    prefix = keys.ANN_ORIGINAL_IMAGE_PREFIX
    kept = {key: value for key, value in annotations.items() if key not in _ANNOTATIONS and not key.startswith(prefix)}
    wanted = annotations.get(keys.ANN_CHECKPOINT)
    if wanted and labels.get(keys.LABEL_RESTORE) != keys.RESTORE_AUTO:
        # The request is taken off once it is served.
        kept[keys.ANN_CHECKPOINT_NAME] = wanted
        if keys.LABEL_RESTORE not in labels:
            kept[keys.ANN_RESTORE_CANDIDATE] = "true"
    metadata |= {"labels": labels, "annotations": kept}
