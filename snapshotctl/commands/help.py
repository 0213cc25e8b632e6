"""``snapshotctl help``: the overview, or the help of one command."""

from __future__ import annotations

import click


def _complete_verb(ctx: click.Context, _: click.Parameter, typed: str) -> list[str]:
    root = ctx.find_root()
    group = root.command
    return (
        [verb for verb in group.list_commands(root) if verb.startswith(typed)] if isinstance(group, click.Group) else []
    )


@click.command()
@click.argument("verb", required=False, shell_complete=_complete_verb)
@click.pass_context
def command(ctx: click.Context, verb: str | None) -> None:
    """Show what snapshotctl can do, or what the command VERB does."""
    root = ctx.find_root()
    group = root.command
    if verb is None or not isinstance(group, click.Group):
        click.echo(root.get_help())
        return
    _, found, _ = group.resolve_command(root, [verb])
    if found is not None:
        click.echo(found.get_help(click.Context(found, info_name=verb, parent=root)))
