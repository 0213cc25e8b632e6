"""Print what a command did as lines of ``key=value`` on standard output, its progress on standard error."""

from __future__ import annotations

from collections.abc import Mapping

import click

from snapshotctl.errors import UserError
from snapshotctl.live.waiting import Ended


def print_facts(facts: Mapping[str, str]) -> None:
    """Print one line for each."""
    click.echo("".join(f"{key}={value}\n" for key, value in facts.items()), nl=False)


def print_end(ended: Ended) -> None:
    """Print how it ended.

    Raises:
        UserError: it did not end well.
    """
    print_facts(ended.facts)
    if not ended.ok:
        raise UserError(ended.message)


def print_progress(words: str) -> None:
    """Print what is waited for."""
    click.echo(words, err=True)
