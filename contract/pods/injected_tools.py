"""Tools brought into stock images: the volume, its mount and the init container that make an image fit for standby.

A placeholder image has the tool folder built in. Any other image gets it at the same path, from an init container that
fills an emptyDir or from an image as a volume: in workloads labelled auto always, elsewhere with
``placeholder.mode: inject``. Decided once, for the capture; pods are restored as was captured.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from contract.api import keys
from contract.api.checkpoint import annotations_of, is_automatic
from contract.api.states import Phase

if TYPE_CHECKING:
    from collections.abc import Mapping

    from contract.config.values import Values

Json = dict[str, Any]

_FILL_DIR: Final = "/tools"
_USER: Final = 65532
"""Anyone but root: the volume is open to all, and what is written there is readable for all."""


@dataclass(frozen=True)
class Tools:
    """What a pod gets whose image lacks the tools."""

    volume: Json
    mount: Json
    """Of each target."""
    init: Json | None
    """Goes before all other init containers, which may be targets' wrappers themselves; None with image volumes."""
    pull_secrets: tuple[str, ...]


def tools_for(checkpoint: Mapping[str, Any], image: str, values: Values, *, capture: bool = False) -> Tools | None:
    """Return what a container lacks that runs ``image``; None: nothing.

    Args:
        checkpoint: what it is captured for or restored from.
        image: what it runs, after ``placeholder.images``.
        values: the chart's values.
        capture: whether it is to be captured: what was noted of an earlier version counts for nothing then.
    """
    if not _brings_tools(checkpoint, image, values, capture=capture):
        return None
    inject = values.placeholder.inject
    secrets = tuple(secret.name for secret in values.tools_pull_secrets)
    if inject.via == "imageVolume":
        source = {"reference": values.tools_image, "pullPolicy": inject.image.pull_policy}
        mount = _mount(subPath=keys.TOOLS_DIR.removeprefix("/"))
        return Tools({"name": keys.TOOLS_VOLUME, "image": source}, mount, None, secrets)
    return Tools({"name": keys.TOOLS_VOLUME, "emptyDir": {}}, _mount(), _init(values), secrets)


def _brings_tools(checkpoint: Mapping[str, Any], image: str, values: Values, *, capture: bool) -> bool:
    status = {} if capture else checkpoint.get("status") or {}
    noted = (status.get("image") or {}).get("injected")
    if noted is not None:
        # Goes before the values of today: a pod restored without tools that its image lacks would not even start.
        return bool(noted)
    placeholder = values.placeholder
    # Earlier releases noted nothing where they brought nothing, and went by the mode alone.
    wanted = status.get("phase") != Phase.READY and values.automatic.inject and _is_of_workload(checkpoint)
    return (wanted or placeholder.mode == "inject") and image not in placeholder.images.values()


def _is_of_workload(checkpoint: Mapping[str, Any]) -> bool:
    """Say whether the checkpoint was made for the label auto; those of graphs are automatic too, but have no stamp."""
    return is_automatic(checkpoint) and keys.ANN_TEMPLATE_HASH in annotations_of(checkpoint)


def file_probe(directory: str, name: str, *, stock: bool) -> Json:
    """Return a probe that succeeds once a control file is there.

    Args:
        directory: the container's control directory.
        name: of the file.
        stock: whether standby was brought into the image: it answers itself then, since nothing else is known to be
            there.
    """
    command = [keys.STANDBY, "--opened", directory, name] if stock else ["cat", f"{directory}/{name}"]
    return {"exec": {"command": command}}


class EntrypointUnknownError(ValueError):
    """A container leaves its command to a stock image, and what that would run is not known yet."""


def image_command(container: Mapping[str, Any], image: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """Command and arguments of a container that leaves its command to its image.

    Args:
        container: the container.
        image: ``status.image`` of the checkpoint.

    Raises:
        EntrypointUnknownError: if that does not say.
    """
    entrypoint, cmd = image.get("entrypoint"), image.get("cmd")
    if not entrypoint and not cmd:
        raise EntrypointUnknownError(
            f"container {container.get('name')!r} has no command, and what its image would run is not known from a "
            "capture; write the command into the pod template"
        )
    return list(entrypoint or ()), list(container.get("args") or cmd or ())


def _mount(**more: str) -> Json:
    return {"name": keys.TOOLS_VOLUME, "mountPath": keys.TOOLS_DIR, "readOnly": True, **more}


def _init(values: Values) -> Json:
    inject = values.placeholder.inject
    # The pod may be held to the restricted profile, whose rules each container must keep.
    security: Json = {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    if not values.openshift.enabled:
        # OpenShift gives each namespace a range of users and refuses any other.
        security["runAsUser"] = _USER
    return {
        "name": keys.TOOLS_VOLUME,
        "image": values.tools_image,
        "imagePullPolicy": inject.image.pull_policy,
        "command": [keys.STANDBY, "--install", _FILL_DIR],
        "resources": inject.resources.model_dump(exclude_defaults=True),
        "securityContext": security,
        "volumeMounts": [{"name": keys.TOOLS_VOLUME, "mountPath": _FILL_DIR}],
    }
