"""Create a placeholder, or print it."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click

from contract.api import keys
from contract.api.states import Admission
from kube.api import Object
from kube.errors import AlreadyExistsError, NotFoundError
from kube.resources import CHECKPOINTS, PODS
from snapshotctl.errors import EXIT_COLD, UserError
from snapshotctl.live.cluster import Session, on_cluster
from snapshotctl.live.errors import not_installed
from snapshotctl.live.reach import Reach
from snapshotctl.live.suggestions import not_found
from snapshotctl.offline.files import manifests_of
from snapshotctl.offline.manual import pod_of
from snapshotctl.offline.placeholders import placeholder_body, placeholder_facts, pod_of_checkpoint
from snapshotctl.run.facts import print_facts
from snapshotctl.run.placing import placed
from snapshotctl.view.listing import as_document

_WAITS: Final = (
    "it waits; restore into it: snapshotctl restore --pod {name} --checkpoint-id {checkpoint} -n {namespace}"
)


def placeholder(
    reach: Reach, checkpoint: str | None, manifest: Path | None, containers: str | None, name: str | None, output: str
) -> int:
    """Create the placeholder of a checkpoint or a manifest, or print it, and return the exit status."""
    if manifest is not None:
        return _of_manifest(reach, manifest, containers, name, output)

    async def work(session: Session) -> tuple[Object, Object]:
        found = await _checkpoint(session, str(checkpoint))
        pod = pod_of_checkpoint(found, name)
        return placeholder_body(pod, containers, found["metadata"]["name"], session.namespace), found

    if output:
        body, _ = on_cluster(reach, work)
        click.echo(as_document(body, output), nl=False)
        return 0

    async def create(session: Session) -> dict[str, str]:
        body, found = await work(session)
        return placeholder_facts(await _created(session, body), found)

    return _told(on_cluster(reach, create))


def _of_manifest(reach: Reach, manifest: Path, containers: str | None, name: str | None, output: str) -> int:
    pod = pod_of(manifests_of(manifest), str(manifest))
    there = placed(reach, pod)
    if name:
        pod["metadata"] = {**(pod.get("metadata") or {}), "name": name}
    if output:
        click.echo(as_document(placeholder_body(pod, containers, None, there.namespace), output), nl=False)
        return 0

    async def create(session: Session) -> dict[str, str]:
        body = placeholder_body(pod, containers, None, session.namespace)
        return placeholder_facts(await _created(session, body), None)

    return _told(on_cluster(there, create))


def _told(facts: dict[str, str]) -> int:
    print_facts(facts)
    name, namespace = facts["name"], facts["namespace"]
    if facts["admission"] == Admission.PLACEHOLDER:
        checkpoint = facts["checkpoint_id"] or "ID"
        click.echo(_WAITS.format(name=name, checkpoint=checkpoint, namespace=namespace), err=True)
        return 0
    click.echo(f"error: it does not wait, it starts cold; `snapshotctl why {name} -n {namespace}`", err=True)
    return EXIT_COLD


async def _checkpoint(session: Session, name: str) -> Object:
    """Read a DynamoCheckpoint by its name, or by the id of its artifact."""
    try:
        return await session.kube.get(CHECKPOINTS, name, session.namespace)
    except NotFoundError as error:
        if not_installed(error):
            raise
    labels = f"{keys.LABEL_CHECKPOINT_ID}={name}"
    found = (await session.kube.list(CHECKPOINTS, session.namespace, labels=labels)).items
    if not found:
        raise UserError(await not_found(session.kube, CHECKPOINTS, name, session.namespace))
    return found[0]


async def _created(session: Session, body: Object) -> Object:
    try:
        return await session.kube.create(PODS, body, session.namespace)
    except AlreadyExistsError as error:
        raise UserError(f"pod {body['metadata']['name']} exists; choose another with --name") from error
