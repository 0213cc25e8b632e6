"""Conditions of an object's status: a list by type, in which nothing has to be there."""

from collections.abc import Mapping
from typing import Any

Json = dict[str, Any]


def condition(obj: Mapping[str, Any], kind: str) -> Json | None:
    """Return the condition of that type in an object's status."""
    entries = (obj.get("status") or {}).get("conditions") or ()
    return next((entry for entry in entries if entry.get("type") == kind), None)


def is_true(obj: Mapping[str, Any], kind: str) -> bool:
    """Say whether the condition of that type is there and ``True``."""
    found = condition(obj, kind)
    return found is not None and found.get("status") == "True"
