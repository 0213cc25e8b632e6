"""``snapshotctl completion``: the shell's side of completion, to be sourced."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

SHELLS = ("bash", "zsh", "fish")


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def command(ctx: click.Context, shell: str) -> None:
    """Print what a shell must source to complete snapshotctl's commands, options and files.

    For bash, in ~/.bashrc: source <(snapshotctl completion bash)
    """
    root = ctx.find_root()
    made = get_completion_class(shell)
    if made is None:
        raise click.UsageError(f"no completion for {shell}")
    name = (root.info_name or "snapshotctl").replace(" ", "-")
    click.echo(made(root.command, {}, name, f"_{name.upper().replace('-', '_')}_COMPLETE").source())
