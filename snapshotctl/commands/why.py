"""``snapshotctl why``: why a pod was restored or started cold, or what would become of one."""

from __future__ import annotations

from pathlib import Path

import click

from snapshotctl.commands.lazy import run
from snapshotctl.commands.options import FILE_OR_STDIN, complete_pod, reach_options
from snapshotctl.live.reach import Reach

_FILE_OR_FOLDER = click.Path(allow_dash=True, path_type=Path)


@click.command()
@click.argument("pod", required=False, metavar="[POD|KIND/NAME]", shell_complete=complete_pod)
@click.option(
    "-f",
    "--filename",
    "filenames",
    type=_FILE_OR_FOLDER,
    multiple=True,
    help="Any workload's manifest, a folder of them, or - for standard input; may be repeated.",
)
@click.option("-R", "--recursive", is_flag=True, help="With -f FOLDER: the folders in it too.")
@click.option("--values", type=FILE_OR_STDIN, help="The chart's values. Without: those of the release that serves it.")
@click.option("--objects", type=FILE_OR_STDIN, help="With -f: DynamoCheckpoints and claims, in place of a cluster's.")
@click.option("-o", "--output", type=click.Choice(["text", "json", "yaml"]), default="text", show_default=True)
@reach_options()
def command(
    *,
    reach: Reach,
    pod: str | None,
    filenames: tuple[Path, ...],
    recursive: bool,
    values: Path | None,
    objects: Path | None,
    output: str,
) -> None:
    """Explain why POD starts as it does, or with -f what would become of the pods of manifests.

    Asks the webhook's own decision with the cluster's checkpoints and, with podMount, volume claims, and adds what
    happened to the pod since.
    Every code is explained in docs/reasons.md.

    Exit status: 0 restores, 1 it cannot be answered, 2 the input cannot be read, 3 starts cold (with -f: one of them).
    """
    if (pod is None) == (not filenames):
        raise click.UsageError("name a pod, or a manifest with -f FILE")
    if not filenames and (objects is not None or recursive):
        raise click.UsageError(f"{'-R' if recursive else '--objects'} goes with -f FILE")
    if [*filenames, values, objects].count(Path("-")) > 1:
        raise click.UsageError("standard input (-) can be read only once")
    if pod is not None:
        run("snapshotctl.run.why:explain_live", reach, pod, values, output)
    else:
        run("snapshotctl.run.why:explain_files", reach, filenames, objects, values, output, recursive=recursive)
