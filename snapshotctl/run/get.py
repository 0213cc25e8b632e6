"""List checkpoints or pods, once or with every change."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click

from kube.api import Object
from snapshotctl.errors import UserError
from snapshotctl.live.cluster import Session, on_cluster
from snapshotctl.live.reach import Reach
from snapshotctl.view.follow import follow
from snapshotctl.view.inventory import take
from snapshotctl.view.listing import VIEWS, View, as_document, as_table


def list_objects(reach: Reach, kind: str, names: Sequence[str], output: str, *, watch: bool) -> None:
    """Print the objects of a kind: those of the names, or all."""

    async def work(session: Session) -> None:
        view = VIEWS[kind]
        inventory = await take(session.kube, session.scope)
        facts = _named(view.facts_of(inventory), names, kind, session)
        _print(view, facts, output, session)
        if watch:
            await follow(session, view, set(names), inventory)

    on_cluster(reach, work)


def _named(facts: list[Object], names: Sequence[str], kind: str, session: Session) -> list[Object]:
    known = {fact["name"] for fact in facts}
    missing = [name for name in names if name not in known]
    if missing:
        where = "-A" if session.everywhere else f"-n {session.namespace}"
        raise UserError(
            f"no {kind.removesuffix('s')} {', '.join(missing)} in {session.place}; `snapshotctl get {kind} {where}` "
            "lists all"
        )
    return [fact for fact in facts if not names or fact["name"] in names]


def _print(view: View, facts: list[Object], output: str, session: Session) -> None:
    if output == "name":
        click.echo("".join(f"{view.prefix}/{fact['name']}\n" for fact in facts), nl=False)
    elif output != "table":
        click.echo(as_document({"items": facts}, output), nl=False)
    elif facts:
        click.echo(as_table(view, facts, everywhere=session.everywhere), nl=False)
    else:
        click.echo(f"no {view.noun} in {session.place}", err=True)
    sys.stdout.flush()
