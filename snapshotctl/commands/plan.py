"""``snapshotctl plan``: the controller's next pass, offline, by the controller's own functions."""

from __future__ import annotations

from pathlib import Path

import click

from snapshotctl.commands.lazy import run
from snapshotctl.commands.options import objects_option, values_option


@click.command()
@objects_option
@values_option
@click.option("--now", metavar="RFC3339", help="The time of the pass. Without: now.")
@click.option("-o", "--output", type=click.Choice(["diff", "json"]), default="diff", show_default=True)
def command(objects: Path, values: Path | None, now: str | None, output: str) -> None:
    """Show what the controller's next pass would create, change, delete and write to status.

    Exit status 0, 1 if the pass fails, 2 if the input cannot be read.
    """
    run("snapshotctl.run.plan:show_plan", objects, values, now, output)
