"""Show one checkpoint on a page."""

from __future__ import annotations

import click

from kube.api import Object
from kube.errors import NotFoundError
from kube.resources import CHECKPOINTS
from snapshotctl.errors import UserError
from snapshotctl.live.cluster import Session, on_cluster
from snapshotctl.live.errors import not_installed
from snapshotctl.live.reach import Reach
from snapshotctl.live.suggestions import not_found
from snapshotctl.view.details import as_text, page_of
from snapshotctl.view.listing import as_document


def describe(reach: Reach, name: str, output: str) -> None:
    """Print the page of the checkpoint *name*."""

    async def work(session: Session) -> Object:
        try:
            checkpoint = await session.kube.get(CHECKPOINTS, name, session.namespace)
        except NotFoundError as error:
            if not_installed(error):
                raise
            raise UserError(await not_found(session.kube, CHECKPOINTS, name, session.namespace)) from error
        return await page_of(session.kube, checkpoint)

    page = on_cluster(reach, work)
    click.echo(as_text(page) if output == "text" else as_document(page, output), nl=False)
