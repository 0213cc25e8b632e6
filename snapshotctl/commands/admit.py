"""``snapshotctl admit``: the webhook's decision, offline, by the webhook's own function."""

from __future__ import annotations

from pathlib import Path

import click

from snapshotctl.commands.lazy import run
from snapshotctl.commands.options import objects_option, values_option


@click.command()
@objects_option
@values_option
def command(objects: Path, values: Path | None) -> None:
    """Answer the AdmissionReview on standard input as the webhook would.

    Prints the AdmissionReview with the answer; response.status.message says why, response.auditAnnotations holds the
    code. Exit status 0 whatever the decision, 2 if the input cannot be read.

    With podMount the file's PersistentVolumeClaims say whether the claim exists; without any it is taken to exist.
    """
    run("snapshotctl.run.admit:admit", objects, values)
