"""``snapshotctl get``: checkpoints, or pods that opted in, one line each."""

from __future__ import annotations

from typing import Final

import click

from snapshotctl.commands.lazy import run
from snapshotctl.commands.options import complete_checkpoint, complete_pod, reach_options
from snapshotctl.live.reach import Reach

KINDS: Final = {
    "checkpoints": ("checkpoint", "dckpt", "dynamocheckpoint", "dynamocheckpoints"),
    "pods": ("pod", "po"),
}


def _complete_kind_or_name(ctx: click.Context, parameter: click.Parameter, typed: str) -> list[str]:
    """Complete with the kinds, then with names of that kind."""
    words = ctx.params.get("what") or ()
    if words and words[0].startswith("po"):
        return complete_pod(ctx, parameter, typed)
    kinds = [] if words else [kind for kind in KINDS if kind.startswith(typed)]
    return [*kinds, *complete_checkpoint(ctx, parameter, typed)]


@click.command()
@click.argument("what", nargs=-1, metavar="[checkpoints|pods] [NAME]...", shell_complete=_complete_kind_or_name)
@click.option(
    "-o", "--output", type=click.Choice(["table", "json", "yaml", "name"]), default="table", show_default=True
)
@click.option("-w", "--watch", is_flag=True, help="Go on with a line for each change, until interrupted.")
@reach_options(everywhere=True)
def command(reach: Reach, what: tuple[str, ...], output: str, *, watch: bool) -> None:
    """List checkpoints with versions, sizes and users, or the pods that opted in with how they start.

    Exit status: 0 done, 1 the cluster cannot be asked or a name does not exist.
    """
    if watch and output != "table":
        raise click.UsageError("--watch goes with the table only")
    kind, names = split(what)
    run("snapshotctl.run.get:list_objects", reach, kind, names, output, watch=watch)


def split(what: tuple[str, ...]) -> tuple[str, tuple[str, ...]]:
    """Return the kind and the names; a first word that is no kind is the name of a checkpoint."""
    for kind, others in KINDS.items():
        if what and what[0].lower() in (kind, *others):
            return kind, what[1:]
    return "checkpoints", what
