"""``snapshotctl placeholder``: make a pod that waits until a checkpoint is restored into it."""

from __future__ import annotations

from pathlib import Path

import click

from snapshotctl.commands.lazy import run
from snapshotctl.commands.options import FILE_OR_STDIN, complete_checkpoint, reach_options
from snapshotctl.live.reach import Reach


@click.command()
@click.argument("checkpoint", required=False, shell_complete=complete_checkpoint)
@click.option("--manifest", type=FILE_OR_STDIN, help="One Pod in place of a checkpoint; - for standard input.")
@click.option("--containers", help="Comma-separated: those that wait. Without: the captured one, the pod's targets.")
@click.option("--name", metavar="POD", help="Of the pod. Without: a new one, or the manifest's.")
@click.option("-o", "--output", type=click.Choice(["yaml", "json"]), help="Print the pod, and create nothing.")
@reach_options()
def command(
    reach: Reach,
    checkpoint: str | None,
    manifest: Path | None,
    containers: str | None,
    name: str | None,
    output: str | None,
) -> None:
    """Make a pod that waits, not ready, until `snapshotctl restore --pod` names a checkpoint on it.

    CHECKPOINT is the name of a DynamoCheckpoint, or its id: the pod is made of its template. It need not be Ready, and
    another one may be restored into the pod in the end. With --manifest the pod is made of that manifest.

    Exit status: 0 it waits, or was printed; 1 it was not created, 2 the manifest cannot be read, 3 it was created, but
    starts cold.
    """
    if (checkpoint is None) == (manifest is None):
        raise click.UsageError("one of CHECKPOINT and --manifest FILE is needed")
    run("snapshotctl.run.placeholder:placeholder", reach, checkpoint, manifest, containers, name, output or "")
