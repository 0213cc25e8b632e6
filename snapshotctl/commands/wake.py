"""``snapshotctl wake``: let parked workers go on."""

from __future__ import annotations

import click

from snapshotctl.commands.lazy import run
from snapshotctl.commands.options import complete_parked, reach_options
from snapshotctl.live.reach import Reach


@click.command()
@click.argument("pod", shell_complete=complete_parked)
@reach_options()
def command(reach: Reach, pod: str) -> None:
    """Let the parked worker of a pod go on: it gets its devices back and serves; return.

    Prints lines of key=value; `snapshotctl why POD`, Events and the worker's log say how the wake goes. A wake that
    fails is a cold start. Needs the rights to get and patch the pod.

    Exit status: 0 it is woken, 1 it was not changed.
    """
    run("snapshotctl.run.wake:wake", reach, pod)
