"""``snapshotctl describe``: everything about one checkpoint on one page, and what to do next."""

from __future__ import annotations

import click

from snapshotctl.commands.lazy import run
from snapshotctl.commands.options import complete_checkpoint, reach_options
from snapshotctl.live.reach import Reach


@click.command()
@click.argument("name", shell_complete=complete_checkpoint)
@click.option("-o", "--output", type=click.Choice(["text", "json", "yaml"]), default="text", show_default=True)
@reach_options()
def command(reach: Reach, name: str, output: str) -> None:
    """Show the checkpoint NAME: identity, phase, conditions, versions, who restores from it, events, what to do next.

    Exit status: 0 done, 1 there is no such checkpoint or the cluster cannot be asked.
    """
    run("snapshotctl.run.describe:describe", reach, name, output)
