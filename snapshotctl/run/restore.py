"""Create a pod from a manifest so that it restores."""

from __future__ import annotations

from pathlib import Path

import click

from contract.api import keys
from contract.api.states import Admission
from kube.api import Object
from kube.errors import AlreadyExistsError
from kube.resources import CHECKPOINTS, PODS
from snapshotctl.errors import EXIT_COLD, UserError
from snapshotctl.live.cluster import Session, on_cluster
from snapshotctl.live.reach import Reach
from snapshotctl.offline.files import manifests_of
from snapshotctl.offline.manual import (
    check_captured,
    check_checkpoint_id,
    pod_of,
    restore_body,
    restore_facts,
    targets_of,
)
from snapshotctl.run.facts import print_facts
from snapshotctl.run.placing import placed


def restore(reach: Reach, manifest: Path, checkpoint_id: str, containers: str | None) -> int:
    """Create the only pod of *manifest*, print what was created, and return the exit status."""
    check_checkpoint_id(checkpoint_id)
    wanted = pod_of(manifests_of(manifest), str(manifest))
    targets = targets_of(wanted, containers)

    async def work(session: Session) -> dict[str, str]:
        checkpoint = await checkpoint_of(session, checkpoint_id)
        check_captured(wanted, containers, checkpoint)
        body = restore_body(wanted, str(checkpoint["metadata"]["name"]), targets, session.namespace)
        return restore_facts(await _created(session, body), checkpoint, checkpoint_id)

    facts = on_cluster(placed(reach, wanted), work)
    print_facts(facts)
    if facts["admission"] in (Admission.RESTORE_SHAPED, Admission.HELD):
        return 0
    command = f"snapshotctl why {facts['name']} -n {facts['namespace']}"
    click.echo(f"error: it starts cold; `{command}` says what to do", err=True)
    return EXIT_COLD


async def checkpoint_of(session: Session, checkpoint_id: str) -> Object:
    """Read the DynamoCheckpoint of this id, which is a label's value by now."""
    label = f"{keys.LABEL_CHECKPOINT_ID}={checkpoint_id}"
    found = (await session.kube.list(CHECKPOINTS, session.namespace, labels=label)).items
    if not found:
        raise UserError(
            f"no DynamoCheckpoint of namespace {session.namespace} has the id {checkpoint_id}; "
            f"`snapshotctl get -n {session.namespace}` lists them"
        )
    return found[0]


async def _created(session: Session, body: Object) -> Object:
    try:
        return await session.kube.create(PODS, body, session.namespace)
    except AlreadyExistsError as error:
        name = body["metadata"]["name"]
        raise UserError(f"pod {name} exists; name another in the manifest, or delete it") from error
