"""Create a DynamoCheckpoint from a pod's manifest and wait until it is captured."""

from __future__ import annotations

import secrets
from pathlib import Path

from kube.api import Object
from kube.errors import AlreadyExistsError
from kube.resources import CHECKPOINTS
from snapshotctl.errors import UserError
from snapshotctl.live.cluster import Session, on_cluster
from snapshotctl.live.reach import Reach
from snapshotctl.live.waiting import Ended, until_captured
from snapshotctl.offline.files import manifests_of
from snapshotctl.offline.manual import (
    ID_PREFIX,
    check_checkpoint_id,
    checkpoint_body,
    pod_of,
    targets_of,
)
from snapshotctl.run.facts import print_end, print_progress
from snapshotctl.run.placing import placed


def capture(
    reach: Reach,
    *,
    manifest: Path,
    container: str | None,
    checkpoint_id: str | None,
    ready_signal: str,
    timeout: float,
) -> None:
    """Capture the only pod of *manifest*, and print how it ended."""
    name = check_checkpoint_id(checkpoint_id) if checkpoint_id else ID_PREFIX + secrets.token_hex(6)
    pod = pod_of(manifests_of(manifest), str(manifest))
    targets = targets_of(pod, container)
    if len(targets) != 1:
        raise UserError(f"one container is captured, found {', '.join(targets)}; choose with --container")

    async def work(session: Session) -> Ended:
        body = checkpoint_body(pod, targets[0], name, session.namespace, ready_signal)
        return await until_captured(session.kube, await _created(session, body), timeout, print_progress)

    print_end(on_cluster(placed(reach, pod), work))


async def _created(session: Session, body: Object) -> Object:
    try:
        return await session.kube.create(CHECKPOINTS, body, session.namespace)
    except AlreadyExistsError as error:
        name = body["metadata"]["name"]
        raise UserError(f"DynamoCheckpoint {name} exists; choose another --checkpoint-id") from error
