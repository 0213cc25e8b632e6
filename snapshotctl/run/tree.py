"""Show who restores from what."""

from __future__ import annotations

import click

from snapshotctl.live.cluster import Session, on_cluster
from snapshotctl.live.reach import Reach
from snapshotctl.view.inventory import take
from snapshotctl.view.listing import as_document
from snapshotctl.view.tree import as_text, forest


def show_tree(reach: Reach, output: str) -> None:
    """Print the tree of the namespaces in reach."""

    async def work(session: Session) -> None:
        namespaces = forest(await take(session.kube, session.scope))
        if output != "tree":
            click.echo(as_document({"namespaces": namespaces}, output), nl=False)
        elif namespaces:
            click.echo(as_text(namespaces), nl=False)
        else:
            click.echo(f"no checkpoints and no pods that opted in, in {session.place}", err=True)

    on_cluster(reach, work)
