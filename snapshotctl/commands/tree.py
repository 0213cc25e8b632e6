"""``snapshotctl tree``: namespaces, workloads, their checkpoints, the versions in storage, the pods that use them."""

from __future__ import annotations

import click

from snapshotctl.commands.lazy import run
from snapshotctl.commands.options import reach_options
from snapshotctl.live.reach import Reach


@click.command()
@click.option("-o", "--output", type=click.Choice(["tree", "json", "yaml"]), default="tree", show_default=True)
@reach_options(everywhere=True)
def command(reach: Reach, output: str) -> None:
    """Show who restores from what: namespace, workload or graph, checkpoint, version, pod.

    Exit status: 0 done, 1 the cluster cannot be asked.
    """
    run("snapshotctl.run.tree:show_tree", reach, output)
