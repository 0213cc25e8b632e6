"""``snapshotctl admit``: the webhook's decision, offline, by the webhook's own function."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from snapshotctl.commands.options import objects_of, objects_option, unreadable, values_of, values_option


@click.command()
@objects_option
@values_option
def command(objects: Path, values: Path | None) -> None:
    """Answer the AdmissionReview on standard input as the webhook would.

    Prints the AdmissionReview with the answer; response.status.message says why, response.auditAnnotations holds the
    code. Exit status 0 whatever the decision, 2 where the input cannot be read.

    With podMount the file's PersistentVolumeClaims say whether the claim is there; without any it is taken as there.
    """
    from snapshotctl.offline.objects import claims_in, is_checkpoint  # noqa: PLC0415 - --help imports nothing
    from webhook.pod_schema import malformed  # noqa: PLC0415 - as above
    from webhook.review import BadReviewError, answer, parse  # noqa: PLC0415 - as above

    loaded = values_of(values)
    found = objects_of(objects)
    stored = {(obj["metadata"]["namespace"], obj["metadata"]["name"]): obj for obj in found if is_checkpoint(obj)}
    claims = claims_in(found)(loaded.storage.pvc.name)
    body = sys.stdin.buffer.read()
    try:
        request = parse(body)
        if request.get("operation") == "CREATE" and (problem := malformed(request.get("object"))):
            unreadable(f"standard input: request.object is no pod: {problem}")
        result = answer(body, lambda namespace, name: stored.get((namespace, name)), loaded, claims)
    except BadReviewError as error:
        unreadable(f"standard input: {error}")
    click.echo(result.body)
