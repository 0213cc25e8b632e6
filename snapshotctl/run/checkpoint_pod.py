"""Ask for the capture of a running pod, and wait for its end if that is wanted."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Final

from contract.api import keys
from contract.api.checkpoint import annotations_of, source_pod
from contract.api.running import is_capturing, new_request, read_result, requested_checkpoint
from kube.api import Object
from kube.errors import AlreadyExistsError, ConflictError, NotFoundError
from kube.resources import CHECKPOINTS, PODS
from snapshotctl.errors import UserError
from snapshotctl.explain.release import find_release
from snapshotctl.live.cluster import Session, on_cluster
from snapshotctl.live.reach import Reach
from snapshotctl.live.waiting import Ended, skipped, submitted, until_captured
from snapshotctl.offline.running import running_checkpoint
from snapshotctl.run.facts import print_end, print_progress

_TAKEN: Final = "DynamoCheckpoint {name} exists; choose another --name, or delete it"
_BUSY: Final = (
    "pod {pod} is being captured for DynamoCheckpoint {name} already; ask again once that has ended: "
    "`snapshotctl describe {name} -n {namespace}`"
)
LOOKS: Final = 4
LOOK_SECONDS: Final = 0.5
"""Between looks for the checkpoint of a request: who asks makes it right after, unless it died in between."""


def capture(reach: Reach, pod: str, container: str | None, name: str | None, *, wait: bool, timeout: float) -> None:
    """Make a DynamoCheckpoint of a running pod, and print how it ended or that it was asked for."""

    async def work(session: Session) -> Ended:
        made = await _ask(session, pod, container, name)
        if isinstance(made, Ended):
            return made
        return await until_captured(session.kube, made, timeout, print_progress) if wait else submitted(made)

    print_end(on_cluster(reach, work))


async def _ask(session: Session, name: str, container: str | None, checkpoint: str | None) -> Object | Ended:
    """Name the checkpoint on the pod, then make it: who may not do the first leaves nothing behind."""
    kube, namespace = session.kube, session.namespace
    more = () if checkpoint else (await find_release(kube, namespace)).values.automatic.hash_annotations
    while True:
        pod = await _pod(session, name)
        body = running_checkpoint(pod, container, checkpoint, more)
        made = body["metadata"]["name"]
        if (busy := await _in_progress(session, pod)) is not None:
            other = busy["metadata"]["name"]
            return skipped(
                busy, "" if checkpoint in (None, other) else _BUSY.format(pod=name, name=other, namespace=namespace)
            )
        if await _existing(session, made) is not None:
            raise UserError(_TAKEN.format(name=made))
        # Only if the pod is as it was seen: of two that ask at once, one would lose its answer.
        version = pod["metadata"]["resourceVersion"]
        metadata = {"resourceVersion": version, "annotations": {keys.ANN_CAPTURE: new_request(made)}}
        with suppress(ConflictError):
            await kube.patch(PODS, pod["metadata"]["name"], {"metadata": metadata}, namespace)
            break
    try:
        return await kube.create(CHECKPOINTS, body, namespace)
    except AlreadyExistsError as error:
        # The controller makes the one of the pod's own template itself as soon as the pod asks.
        found = await _existing(session, made)
        if found is not None and source_pod(found) == source_pod(body):
            return found
        raise UserError(_TAKEN.format(name=made)) from error


async def _pod(session: Session, name: str) -> Object:
    try:
        return await session.kube.get(PODS, name.rpartition("/")[2], session.namespace)
    except NotFoundError as error:
        words = f"no pod {name} in namespace {session.namespace}; `kubectl get pods -n {session.namespace}` lists them"
        raise UserError(words) from error


async def _in_progress(session: Session, pod: Object) -> Object | None:
    """Return the checkpoint that a pod is being captured for, if any."""
    notes = annotations_of(pod)
    request = notes.get(keys.ANN_CAPTURE, "")
    answer = read_result(notes.get(keys.ANN_CAPTURE_RESULT, ""))
    looks = 0 if not request else 1 if answer is not None and answer.request == request else LOOKS
    for look in range(looks):
        if look:
            await asyncio.sleep(LOOK_SECONDS)
        found = await _existing(session, requested_checkpoint(request))
        if found is not None and is_capturing(found, pod):
            return found
    return None


async def _existing(session: Session, name: str) -> Object | None:
    try:
        return await session.kube.get(CHECKPOINTS, name, session.namespace)
    except NotFoundError:
        return None
