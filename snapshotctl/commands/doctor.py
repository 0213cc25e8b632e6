"""``snapshotctl doctor``: is the release well that serves this namespace?"""

from __future__ import annotations

import click

from snapshotctl.commands.lazy import run
from snapshotctl.commands.options import reach_options
from snapshotctl.live.reach import Reach


@click.command()
@click.option("-o", "--output", type=click.Choice(["table", "json", "yaml"]), default="table", show_default=True)
@reach_options(everywhere=True)
def command(reach: Reach, output: str) -> None:
    """Look at the release that serves the namespace: controller, webhook, agents, storage, checkpoints.

    Each check comes with what to do next. With -A the checkpoints of all namespaces are counted.

    Exit status: 0 nothing fails, 1 something does, no release was found, or the cluster cannot be asked.
    """
    run("snapshotctl.run.doctor:examine", reach, output)
