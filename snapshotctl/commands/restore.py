"""``snapshotctl restore``: create a pod from a manifest so that it restores from a checkpoint."""

from __future__ import annotations

from pathlib import Path

import click

from snapshotctl.commands.lazy import run
from snapshotctl.commands.options import FILE_OR_STDIN, complete_pod, reach_options
from snapshotctl.live.reach import Reach


@click.command()
@click.option("--manifest", type=FILE_OR_STDIN, help="One Pod; - for standard input.")
@click.option("--pod", shell_complete=complete_pod, help="Not served: pods that exist are never changed.")
@click.option("--checkpoint-id", metavar="ID", required=True, help="Id of the artifact.")
@click.option("--containers", help="Comma-separated. Without: the manifest's targets, main, or the only one.")
@reach_options()
def command(reach: Reach, manifest: Path | None, pod: str | None, checkpoint_id: str, containers: str | None) -> None:
    """Create the pod of a Pod manifest so that it restores from the checkpoint of this id, and return.

    It is created in the manifest's namespace if it names one. Prints lines of key=value; `snapshotctl why POD`, Events
    and the worker's log say how the restore goes.

    Exit status: 0 it restores, 1 it was not created, 2 the manifest cannot be read, 3 created, but it starts cold.
    """
    if manifest is None and pod is None:
        raise click.UsageError("--manifest FILE is needed")
    run("snapshotctl.run.restore:restore", reach, manifest, pod, checkpoint_id, containers)
