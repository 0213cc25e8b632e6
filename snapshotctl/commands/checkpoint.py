"""``snapshotctl checkpoint``: capture the worker of a pod manifest or of a running pod, without writing an object."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click

from snapshotctl.commands.lazy import run
from snapshotctl.commands.options import FILE_OR_STDIN, complete_pod, reach_options, timeout_option
from snapshotctl.live.reach import Reach

_OF_MANIFEST: Final = ("manifest", "checkpoint_id")


@click.command()
@click.option("--manifest", type=FILE_OR_STDIN, help="One Pod; - for standard input.")
@click.option("--pod", metavar="NAME", shell_complete=complete_pod, help="A running pod, which goes on.")
@click.option("--container", help="The container to capture. Without: the pod's target, main, or the only one.")
@click.option(
    "--name",
    metavar="CHECKPOINT",
    help="With --pod: name of the DynamoCheckpoint. Without: that of the pod's own template if it is automatic, else a "
    "new one.",
)
@click.option("--wait", is_flag=True, help="With --pod: wait until it is done, as --manifest does.")
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
def command(*, reach: Reach, pod: str | None, **options: Path | str | float | bool | None) -> None:
    """Capture the worker of a Pod manifest that uses a placeholder image, and wait until it is done; or a running pod.

    With --manifest, makes a DynamoCheckpoint named after the id, in the manifest's namespace if it names one.
    With --pod, the pod's worker is stopped for as long as its memory takes to be written, and goes on. It must run
    under snapshot-standby: it was restored, or its template has the label nvidia.com/snapshot-trigger: "true".
    Needs the rights to patch the pod and to create DynamoCheckpoints.
    Prints lines of key=value; progress goes to standard error.

    Exit status: 0 captured, with --pod also in progress already, or without --wait asked for; 1 it was not, 2 the input
    cannot be read.
    """
    others = [option for option, value in options.items() if option in _OF_MANIFEST and value is not None]
    if pod is None and "manifest" not in others:
        raise click.UsageError("one of --manifest and --pod is needed")
    name, wait = options.pop("name"), options.pop("wait")
    if pod is None and (name is not None or wait):
        raise click.UsageError("--name and --wait are for --pod; with --manifest use --checkpoint-id")
    if pod is None:
        run("snapshotctl.run.checkpoint:capture", reach, **options)
        return
    if others:
        raise click.UsageError(f"--{others[0].replace('_', '-')} is not for --pod; the checkpoint's name is --name")
    container, timeout = options["container"], options["timeout"]
    run("snapshotctl.run.checkpoint_pod:capture", reach, pod, container, name, wait=wait, timeout=timeout)
