"""``snapshotctl get``: checkpoints, or pods that opted in, one line each."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final

import click

from snapshotctl.live.cluster import Reach, Session, UserError, on_cluster, reach_options
from snapshotctl.live.complete_names import complete_kind_or_checkpoint

if TYPE_CHECKING:
    from snapshotctl.view.listing import View

KINDS: Final = {
    "checkpoints": ("checkpoint", "dckpt", "dynamocheckpoint", "dynamocheckpoints"),
    "pods": ("pod", "po"),
}


@click.command()
@click.argument("what", nargs=-1, metavar="[checkpoints|pods] [NAME]...", shell_complete=complete_kind_or_checkpoint)
@click.option(
    "-o", "--output", type=click.Choice(["table", "json", "yaml", "name"]), default="table", show_default=True
)
@click.option("-w", "--watch", is_flag=True, help="Go on with a line for each change, until interrupted.")
@reach_options(everywhere=True)
def command(reach: Reach, what: tuple[str, ...], output: str, *, watch: bool) -> None:
    """List checkpoints with versions, sizes and users, or the pods that opted in with how they start.

    Exit status: 0 done, 1 the cluster cannot be asked or a name is not there.
    """
    kind, names = split(what)
    if watch and output != "table":
        raise click.UsageError("--watch goes with the table only")

    async def work(session: Session) -> None:
        from snapshotctl.view.follow import follow  # noqa: PLC0415 - --help imports nothing
        from snapshotctl.view.inventory import take  # noqa: PLC0415 - as above
        from snapshotctl.view.listing import VIEWS  # noqa: PLC0415 - as above

        view = VIEWS[kind]
        inventory = await take(session.kube, session.scope)
        facts = _named(view.facts_of(inventory), names, kind, session)
        _print(view, facts, output, session)
        if watch:
            await follow(session, view, set(names), inventory)

    on_cluster(reach, work)


def split(what: tuple[str, ...]) -> tuple[str, tuple[str, ...]]:
    """The kind and the names; a first word that is no kind is the name of a checkpoint."""
    for kind, others in KINDS.items():
        if what and what[0].lower() in (kind, *others):
            return kind, what[1:]
    return "checkpoints", what


def _named(facts: list[dict[str, Any]], names: tuple[str, ...], kind: str, session: Session) -> list[dict[str, Any]]:
    known = {fact["name"] for fact in facts}
    missing = [name for name in names if name not in known]
    if missing:
        where = "any namespace" if session.everywhere else f"namespace {session.namespace}"
        raise UserError(
            f"no {kind.removesuffix('s')} {', '.join(missing)} in {where}; `snapshotctl get {kind}` lists all"
        )
    return [fact for fact in facts if not names or fact["name"] in names]


def _print(view: View, facts: list[dict[str, Any]], output: str, session: Session) -> None:
    from snapshotctl.view.listing import as_document, as_table  # noqa: PLC0415 - --help imports nothing

    if output == "name":
        click.echo("".join(f"{view.prefix}/{fact['name']}\n" for fact in facts), nl=False)
    elif output != "table":
        click.echo(as_document({"items": facts}, output), nl=False)
    elif facts:
        click.echo(as_table(view, facts, everywhere=session.everywhere), nl=False)
    else:
        where = "any namespace" if session.everywhere else f"namespace {session.namespace}"
        click.echo(f"no {view.noun} in {where}", err=True)
    sys.stdout.flush()
