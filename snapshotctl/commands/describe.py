"""``snapshotctl describe``: everything about one checkpoint on one page, and what to do next."""

from __future__ import annotations

from typing import Any

import click

from snapshotctl.live.cluster import Reach, Session, UserError, on_cluster, reach_options
from snapshotctl.live.complete_names import complete_checkpoint


@click.command()
@click.argument("name", shell_complete=complete_checkpoint)
@click.option("-o", "--output", type=click.Choice(["text", "json", "yaml"]), default="text", show_default=True)
@reach_options()
def command(reach: Reach, name: str, output: str) -> None:
    """Show the checkpoint NAME: identity, phase, conditions, versions, who restores from it, events, what to do next.

    Exit status: 0 done, 1 there is no such checkpoint or the cluster cannot be asked.
    """

    async def work(session: Session) -> dict[str, Any]:
        from kube.errors import NotFoundError  # noqa: PLC0415 - --help imports nothing
        from kube.resources import CHECKPOINTS  # noqa: PLC0415 - as above
        from snapshotctl.live.errors import not_installed  # noqa: PLC0415 - as above
        from snapshotctl.live.suggestions import not_found  # noqa: PLC0415 - as above
        from snapshotctl.view.details import page_of  # noqa: PLC0415 - as above

        try:
            checkpoint = await session.kube.get(CHECKPOINTS, name, session.namespace)
        except NotFoundError as error:
            if not_installed(error):
                raise
            raise UserError(await not_found(session.kube, CHECKPOINTS, name, session.namespace)) from error
        return await page_of(session.kube, checkpoint)

    page = on_cluster(reach, work)
    from snapshotctl.view.details import as_text  # noqa: PLC0415 - as above
    from snapshotctl.view.listing import as_document  # noqa: PLC0415 - --help imports nothing

    click.echo(as_text(page) if output == "text" else as_document(page, output), nl=False)
