"""The command ``snapshotctl``, also ``kubectl snapshot``: one file for each verb, imported when it is used."""

from __future__ import annotations

import difflib
import os
from typing import Any, Final

import click

from contract.version import VERSION
from snapshotctl.commands.lazy import load

VERBS: Final = {
    "why": "Explain why a pod was restored or started cold, or what would become of one.",
    "preflight": "Look at a running worker: what would be in the way of its capture?",
    "get": "List checkpoints, or the pods that opted in.",
    "describe": "Show everything about one checkpoint, and what to do next.",
    "doctor": "Look whether the release is well: controller, webhook, agents, storage.",
    "tree": "Show who restores from what: workload, checkpoint, version, pod.",
    "checkpoint": "Capture the worker of a pod manifest, or a running pod.",
    "restore": "Restore into a new pod of a manifest, or in place into one that waits.",
    "placeholder": "Make a pod that waits until a checkpoint is restored into it.",
    "wake": "Let the parked worker of a pod go on.",
    "adopt": "Take over an artifact that is in storage already.",
    "admit": "Answer an AdmissionReview offline: would this pod be restored, and if not, why?",
    "plan": "Show offline what the controller's next pass would do.",
    "help": "Show this overview, or the help of a command.",
    "completion": "Print the completion script of a shell: bash, zsh or fish.",
}
"""Verb and its line in the overview; kept here so that the overview imports none of the commands."""

PLUGIN: Final = "kubectl-snapshot"
"""The name by which kubectl finds ``kubectl snapshot``."""


class Verbs(click.Group):
    """A group that imports a verb's module only to run it or to show its help."""

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,  # noqa: ANN401 - click's signature
    ) -> click.Context:
        """Let help name the command as it was typed if kubectl calls it as its plug-in."""
        said = info_name.replace("-", " ") if info_name == PLUGIN else info_name
        return super().make_context(said, args, parent, **extra)

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """List the verbs."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - as above
        """Import the verb of that name."""
        if cmd_name not in VERBS:
            return None
        command: click.Command = load(f"snapshotctl.commands.{cmd_name}:command")
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Suggest a verb for one that does not exist."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            near = difflib.get_close_matches(args[0], VERBS, n=2)
            if not near:
                raise
            words = f"{error.message.rstrip('.')}; did you mean {' or '.join(near)}?"
            raise click.UsageError(words, ctx) from error

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - as above
        """Write the overview without importing the verbs."""
        with formatter.section("Commands"):
            formatter.write_dl(list(VERBS.items()))


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(VERSION, prog_name="snapshotctl")
@click.pass_context
def main(ctx: click.Context) -> None:
    """Checkpoint and restore workers on Kubernetes.

    Exit status: 0 done, 1 it failed, 2 the input or the command line cannot be read, 3 the pod starts cold (why,
    restore, placeholder) or would not be captured (preflight).
    """
    # no-color.org: set to anything but nothing. Off a terminal click takes the colours away by itself.
    if os.environ.get("NO_COLOR"):
        ctx.color = False


if __name__ == "__main__":
    main(prog_name="snapshotctl")
