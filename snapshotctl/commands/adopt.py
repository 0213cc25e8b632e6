"""``snapshotctl adopt``: let a DynamoCheckpoint take over an artifact that is in storage already."""

from __future__ import annotations

import click

from snapshotctl.commands.lazy import run
from snapshotctl.commands.options import complete_checkpoint, reach_options, timeout_option
from snapshotctl.live.reach import Reach


@click.command()
@click.argument("name", shell_complete=complete_checkpoint)
@click.option("--version", metavar="VERSION", help="Of the artifact. Without: the one that the checkpoint asks for.")
@timeout_option("10m")
@reach_options()
def command(reach: Reach, name: str, version: str | None, timeout: float) -> None:
    """Take over the artifact that is in storage under the id of the DynamoCheckpoint NAME, instead of capturing.

    The controller looks at the artifact with a Job and accepts it only if it is whole.
    Prints lines of key=value; what it waits for goes to standard error.

    Exit status: 0 taken over, 1 it was not.
    """
    run("snapshotctl.run.adopt:adopt_artifact", reach, name, version, timeout)
