"""``snapshotctl checkpoint``: capture the worker of a pod manifest, without writing a DynamoCheckpoint."""

from __future__ import annotations

from pathlib import Path

import click

from snapshotctl.commands.lazy import run
from snapshotctl.commands.options import FILE_OR_STDIN, reach_options, timeout_option
from snapshotctl.live.reach import Reach


@click.command()
@click.option("--manifest", type=FILE_OR_STDIN, required=True, help="One Pod; - for standard input.")
@click.option("--container", help="The container to capture. Without: the manifest's target, main, or the only one.")
@click.option("--checkpoint-id", metavar="ID", help="Id of the artifact. Without: a new one.")
@click.option(
    "--ready-signal",
    type=click.Choice(["File", "Probe"]),
    default="File",
    show_default=True,
    help="The moment of capture: the worker writes ready-for-snapshot, or its own probes pass.",
)
@timeout_option("1h")
@click.option(
    "--disable-cuda-checkpoint-job-file",
    is_flag=True,
    expose_value=False,
    help="Changes nothing: no worker is started by cuda-checkpoint here. For commands written for upstream.",
)
@reach_options()
def command(reach: Reach, **options: Path | str | float | bool | None) -> None:
    """Capture the worker of a Pod manifest that uses a placeholder image, and wait until it is done.

    Makes a DynamoCheckpoint named after the id, in the manifest's namespace if it names one. Prints lines of
    key=value; progress goes to standard error.

    Exit status: 0 captured, 1 it was not, 2 the manifest cannot be read.
    """
    run("snapshotctl.run.checkpoint:capture", reach, **options)
