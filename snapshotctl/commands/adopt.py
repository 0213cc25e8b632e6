"""``snapshotctl adopt``: an artifact that is in storage already is taken over by a DynamoCheckpoint."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from snapshotctl.live.cluster import EXIT_FAILED, Reach, Session, on_cluster, reach_options
from snapshotctl.live.complete_names import complete_checkpoint

if TYPE_CHECKING:
    from snapshotctl.live.waiting import Ended


@click.command()
@click.argument("name", shell_complete=complete_checkpoint)
@click.option("--version", metavar="VERSION", help="Of the artifact. Without: the one that the checkpoint asks for.")
@click.option("--timeout", type=click.FloatRange(min=1), default=600.0, show_default=True, help="Seconds to wait.")
@reach_options()
def command(reach: Reach, name: str, version: str | None, timeout: float) -> None:
    """Take over the artifact that lies in storage under the id of the DynamoCheckpoint NAME, instead of capturing.

    The controller looks at the artifact with a Job and believes it only when it is whole.
    Prints lines of key=value; what it waits for goes to standard error.

    Exit status: 0 taken over, 1 it was not.
    """

    async def work(session: Session) -> Ended:
        from snapshotctl.live.adoption import adopt  # noqa: PLC0415 - --help imports nothing

        return await adopt(session.kube, session.namespace, name, version, timeout, _progress)

    done = on_cluster(reach, work)
    for key, value in done.facts.items():
        click.echo(f"{key}={value}")
    if not done.ok:
        click.echo(f"error: {done.message}", err=True)
        sys.exit(EXIT_FAILED)


def _progress(words: str) -> None:
    click.echo(words, err=True)
