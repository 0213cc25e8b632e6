"""Ask for the capture of a running pod, and wait for its end if that is wanted."""

from __future__ import annotations

from typing import Final

from contract.api import keys
from contract.api.checkpoint import source_pod
from contract.api.running import new_request
from kube.api import Object
from kube.errors import AlreadyExistsError, NotFoundError
from kube.resources import CHECKPOINTS, PODS
from snapshotctl.errors import UserError
from snapshotctl.live.cluster import Session, on_cluster
from snapshotctl.live.reach import Reach
from snapshotctl.live.waiting import Ended, submitted, until_captured
from snapshotctl.offline.running import running_checkpoint
from snapshotctl.run.facts import print_end, print_progress

_TAKEN: Final = "DynamoCheckpoint {name} exists; choose another --name, or delete it"


def capture(reach: Reach, pod: str, container: str | None, name: str | None, *, wait: bool, timeout: float) -> None:
    """Make a DynamoCheckpoint of a running pod, and print how it ended or that it was asked for."""

    async def work(session: Session) -> Ended:
        made = await _ask(session, pod, container, name)
        return await until_captured(session.kube, made, timeout, print_progress) if wait else submitted(made)

    print_end(on_cluster(reach, work))


async def _ask(session: Session, name: str, container: str | None, checkpoint: str | None) -> Object:
    """Name the checkpoint on the pod, then make it: who may not do the first leaves nothing behind."""
    kube, namespace = session.kube, session.namespace
    try:
        pod = await kube.get(PODS, name.rpartition("/")[2], namespace)
    except NotFoundError as error:
        words = f"no pod {name} in namespace {namespace}; `kubectl get pods -n {namespace}` lists them"
        raise UserError(words) from error
    body = running_checkpoint(pod, container, checkpoint)
    made = body["metadata"]["name"]
    if await _existing(session, made) is not None:
        raise UserError(_TAKEN.format(name=made))
    notes = {keys.ANN_CAPTURE: new_request(made)}
    await kube.patch(PODS, pod["metadata"]["name"], {"metadata": {"annotations": notes}}, namespace)
    try:
        return await kube.create(CHECKPOINTS, body, namespace)
    except AlreadyExistsError as error:
        # The controller makes the one of the pod's own template itself as soon as the pod asks.
        found = await _existing(session, made)
        if found is not None and source_pod(found) == source_pod(body):
            return found
        raise UserError(_TAKEN.format(name=made)) from error


async def _existing(session: Session, name: str) -> Object | None:
    try:
        return await session.kube.get(CHECKPOINTS, name, session.namespace)
    except NotFoundError:
        return None
