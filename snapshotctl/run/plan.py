"""Show the controller's next pass over the objects of a file."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click

from snapshotctl.errors import InputError, UserError
from snapshotctl.offline.dry_run import dry_run
from snapshotctl.offline.dry_run_text import as_diff, as_json
from snapshotctl.offline.files import objects_of, values_of


def show_plan(objects: Path, values: Path | None, now: str | None, output: str) -> None:
    """Print what the pass would change."""
    moment = _moment(now)
    loaded = values_of(values)
    before = objects_of(objects)
    result = dry_run(before, loaded, moment)
    click.echo(as_json(result) if output == "json" else as_diff(before, result), nl=False)
    if result.error:
        raise UserError(result.error)


def _moment(text: str | None) -> datetime:
    if text is None:
        return datetime.now(UTC)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise InputError(f"--now {text!r}: not RFC 3339; write it as 2026-01-29T10:05:00Z") from error
    if moment.tzinfo is None:
        raise InputError(f"--now {text!r}: has no time zone; write it as {text}Z")
    return moment
