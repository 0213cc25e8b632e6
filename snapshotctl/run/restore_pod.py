"""Name a checkpoint on a placeholder: the agent of its node restores it in place."""

from __future__ import annotations

from contextlib import suppress
from typing import Final

from contract.api.checkpoint import captured_container, find_container, job_target
from contract.pods.common import own_command
from contract.pods.placeholder import Refusal, in_place_patch, refuse, refuse_node, waiting_containers
from kube.api import Object
from kube.errors import ConflictError, ForbiddenError, NotFoundError
from kube.resources import NODES, PODS
from snapshotctl.errors import UserError
from snapshotctl.live.cluster import Session, on_cluster
from snapshotctl.live.reach import Reach
from snapshotctl.live.suggestions import not_found
from snapshotctl.offline.manual import check_captured, check_checkpoint_id, restore_facts
from snapshotctl.offline.placeholders import containers_of
from snapshotctl.run.facts import print_facts, print_progress
from snapshotctl.run.restore import checkpoint_of

TRIES: Final = 5
"""Lost races: kubelet writes a pod's status now and then, and each write makes another version of it."""


def restore_pod(reach: Reach, name: str, checkpoint_id: str, containers: str | None) -> None:
    """Patch the pod, and print what it restores from now."""
    check_checkpoint_id(checkpoint_id)

    async def work(session: Session) -> dict[str, str]:
        checkpoint = await checkpoint_of(session, checkpoint_id)
        for _ in range(TRIES):
            pod = await pod_named(session, name)
            check_captured(pod, containers, checkpoint)
            targets = containers_of(waiting_containers(pod), containers)
            _raise(refuse(pod, targets, checkpoint))
            await look_at_node(session, pod)
            with suppress(ConflictError):
                body = in_place_patch(pod, targets, checkpoint)
                patched = await session.kube.patch(PODS, pod["metadata"]["name"], body, session.namespace)
                _warn(pod, targets, checkpoint)
                return restore_facts(patched, checkpoint, checkpoint_id)
        raise UserError(f"pod {name} changes all the time; try again")

    print_facts(on_cluster(reach, work))


async def pod_named(session: Session, name: str) -> Object:
    """Read a pod by its name, or by kind and name.

    Raises:
        UserError: it does not exist.
    """
    name = name.rpartition("/")[2]
    try:
        return await session.kube.get(PODS, name, session.namespace)
    except NotFoundError as error:
        raise UserError(await not_found(session.kube, PODS, name, session.namespace)) from error


async def look_at_node(session: Session, pod: Object) -> None:
    """Refuse a pod on a node where nothing would restore it; who may not read nodes is not kept from trying."""
    node = (pod.get("spec") or {}).get("nodeName")
    if not node:
        return
    try:
        found = await session.kube.get(NODES, node)
    except (ForbiddenError, NotFoundError):
        print_progress(f"node {node} cannot be read, so it is not known whether a snapshot agent is there")
        return
    _raise(refuse_node(found))


def _raise(refusal: Refusal | None) -> None:
    if refusal is not None:
        raise UserError(f"{refusal.code.value}: {refusal.message}")


def _warn(pod: Object, targets: tuple[str, ...], checkpoint: Object) -> None:
    """Say what a person may not expect: the restored process is the captured one, whatever the pod's command is."""
    captured = own_command((captured_container(checkpoint) or {}).get("command") or ())
    for target in targets:
        own = own_command((find_container(pod["spec"], target) or {}).get("command") or ())
        if captured and own and own != captured:
            print_progress(
                f"container {target} has another command than container {job_target(checkpoint)} of DynamoCheckpoint "
                f"{checkpoint['metadata']['name']}; its own runs only in a cold start"
            )
