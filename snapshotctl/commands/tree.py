"""``snapshotctl tree``: namespaces, workloads, their checkpoints, the versions in storage, the pods that use them."""

from __future__ import annotations

import click

from snapshotctl.live.cluster import Reach, Session, on_cluster, reach_options


@click.command()
@click.option("-o", "--output", type=click.Choice(["tree", "json", "yaml"]), default="tree", show_default=True)
@reach_options(everywhere=True)
def command(reach: Reach, output: str) -> None:
    """Show who restores from what: namespace, workload or graph, checkpoint, version, pod.

    Exit status: 0 done, 1 the cluster cannot be asked.
    """

    async def work(session: Session) -> None:
        from snapshotctl.view.inventory import take  # noqa: PLC0415 - as above
        from snapshotctl.view.listing import as_document  # noqa: PLC0415 - as above
        from snapshotctl.view.tree import as_text, forest  # noqa: PLC0415 - --help imports nothing

        namespaces = forest(await take(session.kube, session.scope))
        if output != "tree":
            click.echo(as_document({"namespaces": namespaces}, output), nl=False)
        elif namespaces:
            click.echo(as_text(namespaces), nl=False)
        else:
            where = "any namespace" if session.everywhere else f"namespace {session.namespace}"
            click.echo(f"no checkpoints and no pods that opted in, in {where}", err=True)

    on_cluster(reach, work)
