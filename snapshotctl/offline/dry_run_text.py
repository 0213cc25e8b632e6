"""A dry run as text for people, or as JSON for programs."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Iterator

import yaml

from kube.api import Object
from snapshotctl.offline.dry_run import DryRun, Key, key_of


def as_json(result: DryRun) -> str:
    """Return ``{"objects", "events", "requeueAfterSeconds", "error"}``."""
    document = {
        "objects": result.objects,
        "events": result.events,
        "requeueAfterSeconds": result.requeue_after_seconds,
        "error": result.error,
    }
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def as_diff(before: Iterable[Object], result: DryRun) -> str:
    """Write a unified diff for each object that changes, the events, and when the controller would look again."""
    return "".join(_lines({key_of(obj): obj for obj in before}, result))


def _lines(before: dict[Key, Object], result: DryRun) -> Iterator[str]:
    after = {key_of(obj): obj for obj in result.objects}
    changed = [key for key in {**before, **after} if before.get(key) != after.get(key)]
    for key in changed:
        yield from _object_diff("/".join(key), before.get(key), after.get(key))
    if not changed:
        yield "no change\n"
    for event in result.events:
        yield f"event: {event['type']} {event['reason']} {event['object']}: {event['message']}\n"
    if result.requeue_after_seconds is not None:
        yield f"looks again after {result.requeue_after_seconds:g} s\n"


def _object_diff(name: str, old: Object | None, new: Object | None) -> Iterator[str]:
    what = "create" if old is None else "delete" if new is None else "change"
    yield f"{what} {name}\n"
    yield from difflib.unified_diff(_yaml(old), _yaml(new), f"{name} (now)", f"{name} (after the pass)")


def _yaml(obj: Object | None) -> list[str]:
    return [] if obj is None else yaml.safe_dump(obj, sort_keys=False, width=120).splitlines(keepends=True)
