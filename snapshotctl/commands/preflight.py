"""``snapshotctl preflight``: what would be in the way if a running worker were captured."""

from __future__ import annotations

import click

from snapshotctl.commands.lazy import run
from snapshotctl.commands.options import complete_pod, reach_options, timeout_option
from snapshotctl.live.reach import Reach


@click.command()
@click.argument("pod", shell_complete=complete_pod)
@click.option("-c", "--container", metavar="NAME", help="Without: the pod's target container, else its first.")
@click.option("-o", "--output", type=click.Choice(["text", "json", "yaml"]), default="text", show_default=True)
@timeout_option("15s")
@reach_options()
def command(*, reach: Reach, pod: str, container: str | None, output: str, timeout: float) -> None:
    """Look at the running worker of POD as a capture would, before it freezes anything, and change nothing.

    The agent of the pod's node looks, whether the pod has opted in or not. The request and the answer are annotations
    of the pod, which are taken off again.
    Every code is explained in docs/reasons.md.

    Exit status: 0 nothing is in the way, 1 it cannot be found out, 3 something is.
    """
    run("snapshotctl.run.preflight:look_at_pod", reach, pod, container, output, timeout)
