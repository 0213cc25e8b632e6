"""``snapshotctl restore``: restore a checkpoint into a pod of a manifest, or into one that waits."""

from __future__ import annotations

from pathlib import Path

import click

from snapshotctl.commands.lazy import run
from snapshotctl.commands.options import FILE_OR_STDIN, complete_placeholder, reach_options
from snapshotctl.live.reach import Reach


@click.command()
@click.option("--manifest", type=FILE_OR_STDIN, help="One Pod; - for standard input.")
@click.option("--pod", shell_complete=complete_placeholder, metavar="NAME", help="A placeholder, which waits.")
@click.option("--checkpoint-id", metavar="ID", required=True, help="Id of the artifact.")
@click.option(
    "--containers",
    help="Comma-separated names, or CAPTURED=NAME. Without: the manifest's targets, main, or the only one; those that "
    "wait.",
)
@reach_options()
def command(reach: Reach, manifest: Path | None, pod: str | None, checkpoint_id: str, containers: str | None) -> None:
    """Restore the checkpoint of this id into a new pod of a Pod manifest, or in place into a pod that waits; return.

    With --manifest the pod is created in the manifest's namespace if it names one. With --pod the checkpoint is named
    on a pod that `snapshotctl placeholder` made; needs the rights to get and patch it.
    Prints lines of key=value; `snapshotctl why POD`, Events and the worker's log say how the restore goes.

    Exit status: 0 it restores, 1 it was not created or changed, 2 the manifest cannot be read, 3 created, but it starts
    cold.
    """
    if (manifest is None) == (pod is None):
        raise click.UsageError("one of --manifest FILE and --pod NAME is needed")
    if pod is not None:
        run("snapshotctl.run.restore_pod:restore_pod", reach, pod, checkpoint_id, containers)
        return
    run("snapshotctl.run.restore:restore", reach, manifest, checkpoint_id, containers)
