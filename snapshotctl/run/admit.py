"""Answer an AdmissionReview with the webhook's own function."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from snapshotctl.errors import InputError
from snapshotctl.offline.files import objects_of, values_of
from snapshotctl.offline.objects import claims_in, is_checkpoint
from webhook.pod_schema import malformed
from webhook.review import BadReviewError, answer, parse


def admit(objects: Path, values: Path | None) -> None:
    """Print the answer to the review on standard input."""
    loaded = values_of(values)
    found = objects_of(objects)
    stored = {(obj["metadata"]["namespace"], obj["metadata"]["name"]): obj for obj in found if is_checkpoint(obj)}
    claims = claims_in(found)(loaded.storage.pvc.claim_name)
    body = sys.stdin.buffer.read()
    try:
        request = parse(body)
        if request.get("operation") == "CREATE" and (problem := malformed(request.get("object"))):
            raise InputError(f"standard input: request.object is no pod: {problem}")
        result = answer(body, lambda namespace, name: stored.get((namespace, name)), loaded, claims)
    except BadReviewError as error:
        raise InputError(f"standard input: {error}") from error
    click.echo(result.body)
