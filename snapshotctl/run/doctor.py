"""Look whether the release that serves a namespace is well."""

from __future__ import annotations

import click

from snapshotctl.errors import EXIT_FAILED, UserError
from snapshotctl.explain.health import Verdict, checks, observe
from snapshotctl.explain.release import find_release
from snapshotctl.live.cluster import Session, on_cluster
from snapshotctl.live.reach import Reach
from snapshotctl.view.health import document, lines
from snapshotctl.view.listing import as_document


def examine(reach: Reach, output: str) -> int:
    """Print what each check found; return the exit status."""

    async def work(session: Session) -> int:
        release = await find_release(session.kube, session.namespace)
        if not release.title:
            why = "; ".join(release.notes)
            raise UserError(f"{why}. If it is installed elsewhere, name its namespace: -n NAMESPACE")
        found = checks(await observe(session.kube, release, session.scope))
        if output == "table":
            click.echo("\n".join(lines(release, found)))
        else:
            click.echo(as_document(document(release, found), output), nl=False)
        return EXIT_FAILED if any(each.verdict is Verdict.FAILING for each in found) else 0

    return on_cluster(reach, work)
