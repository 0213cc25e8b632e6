"""Import what a command does only when it runs, so that help and completion stay fast."""

from __future__ import annotations

import importlib
import sys
from typing import Any

import click

from snapshotctl.errors import EXIT_INTERRUPTED, UserError


def load(path: str) -> Any:  # noqa: ANN401 - whatever the path names
    """Import ``module:name`` and return what it names."""
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)


def run(path: str, *arguments: object, **options: object) -> None:
    """Call the function ``module:name``; end the process with a message and an exit status if it raises a UserError.

    A status that the function returns becomes the exit status.
    """
    try:
        status = load(path)(*arguments, **options)
    except UserError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(error.exit_status)
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)
    if status:
        sys.exit(status)
