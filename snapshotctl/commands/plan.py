"""``snapshotctl plan``: the controller's next pass, offline, by the controller's own functions."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click

from snapshotctl.commands.options import objects_of, objects_option, unreadable, values_of, values_option


@click.command()
@objects_option
@values_option
@click.option("--now", metavar="RFC3339", help="The time of the pass. Without: now.")
@click.option("-o", "--output", type=click.Choice(["diff", "json"]), default="diff", show_default=True)
def command(objects: Path, values: Path | None, now: str | None, output: str) -> None:
    """Show what the controller's next pass would create, change, delete and write to status.

    Exit status 0, 1 where the pass fails, 2 where the input cannot be read.
    """
    from snapshotctl.offline.dry_run import forecast  # noqa: PLC0415 - --help imports nothing
    from snapshotctl.offline.dry_run_text import as_diff, as_json  # noqa: PLC0415 - as above

    moment = _moment(now)
    loaded = values_of(values)
    before = objects_of(objects)
    result = forecast(before, loaded, moment)
    click.echo(as_json(result) if output == "json" else as_diff(before, result), nl=False)
    if result.error:
        click.echo(f"error: {result.error}", err=True)
        raise SystemExit(1)


def _moment(text: str | None) -> datetime:
    if text is None:
        return datetime.now(UTC)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        unreadable(f"--now {text!r}: not RFC 3339; write it as 2026-01-29T10:05:00Z")
    if moment.tzinfo is None:
        unreadable(f"--now {text!r}: has no time zone; write it as {text}Z")
    return moment
