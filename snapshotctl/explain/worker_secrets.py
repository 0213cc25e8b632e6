"""Secrets that a captured worker has in its memory, and that its artifact therefore holds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from contract.api.checkpoint import TargetError, find_targets


def secret_notes(pod: Mapping[str, Any]) -> Iterator[str]:
    """Name the Secrets of each target; pure."""
    try:
        targets = [target.container for target in find_targets(pod)]
    except TargetError:
        return
    for target in targets:
        if found := sorted({*_in_environment(target), *_mounted(pod, target)}):
            names = ", ".join(f"{name} ({way})" for name, way in found)
            yield (
                f"what container {target['name']} reads of its Secrets enters the artifact with its memory: {names}; "
                "treat the checkpoint volume as you treat these (docs/security.md)"
            )


def _in_environment(target: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    sources = [each.get("secretRef") for each in target.get("envFrom") or ()]
    sources += [(each.get("valueFrom") or {}).get("secretKeyRef") for each in target.get("env") or ()]
    for source in sources:
        if name := (source or {}).get("name"):
            yield name, "environment"


def _mounted(pod: Mapping[str, Any], target: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    points = {mount.get("name"): mount.get("mountPath") for mount in target.get("volumeMounts") or ()}
    for volume in pod["spec"].get("volumes") or ():
        if volume.get("name") in points:
            for name in _of_volume(volume):
                yield name, f"mounted at {points[volume['name']]}"


def _of_volume(volume: Mapping[str, Any]) -> Iterator[str]:
    sources = (volume.get("projected") or {}).get("sources") or ()
    for name in (
        (volume.get("secret") or {}).get("secretName"),
        *((each.get("secret") or {}).get("name") for each in sources),
    ):
        if name:
            yield name
