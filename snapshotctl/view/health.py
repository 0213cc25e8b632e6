"""What ``doctor`` prints: one line for each check, then what to do about those that are not well."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from snapshotctl.explain.health import Check, Verdict
from snapshotctl.explain.release import Release
from snapshotctl.view.table import columns


def lines(release: Release, checks: Sequence[Check]) -> Iterator[str]:
    """Yield the lines for people."""
    yield f"release {release.title}"
    yield from (f"note: {note}" for note in release.notes)
    yield ""
    yield from columns(("CHECK", "STATE", "FOUND"), [(each.name, each.verdict.value, each.words) for each in checks])
    todo = [each for each in checks if each.advice]
    if todo:
        yield ""
        yield from (f"{each.name}: {each.advice}" for each in todo)


def document(release: Release, checks: Sequence[Check]) -> dict[str, Any]:
    """Return the same for programs."""
    return {
        "release": release.title,
        "notes": list(release.notes),
        "healthy": all(each.verdict is not Verdict.FAILING for each in checks),
        "checks": [
            {"name": each.name, "state": each.verdict.value, "found": each.words, "do": each.advice} for each in checks
        ],
    }
