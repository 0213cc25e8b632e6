"""``python -m controller.uninstall``: releases what only the controller would, when the system is uninstalled.

A deletion of a DynamoCheckpoint afterwards, or of its namespace, would wait for ever: our finalizer on it is taken off
by the controller alone, and that is deleted. So would a pod that is held for its checkpoint: it is let go, and starts
cold; one that must not start cold waits on, for it may be deleted, or restored by a new installation.
What a policy keeps from being changed is named at the end, when everything else has been let go.
The chart runs this once, after everything else was removed. Artifacts stay.
"""

import logging
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from contract.api import keys
from contract.api.states import GateEnd
from controller.workloads import pods
from daemon import logs
from daemon.settings import read_settings
from daemon.tasks import main
from kube.api import KubeClient, Object, PatchKind
from kube.client import connect
from kube.errors import REFUSALS, ConflictError, ForbiddenError, KubeError, NotFoundError
from kube.resources import CHECKPOINTS, PODS, Resource

ATTEMPTS: Final = 5
"""Lost races for one object; no other client writes to it all the time."""
HELD: Final = f"{keys.LABEL_IS_RESTORE_TARGET}=true"
"""Only shaped pods are ever held."""

_BY_HAND: Final = {
    CHECKPOINTS: f"take the finalizer {keys.FINALIZER} off by hand",
    PODS: f"take the scheduling gate {keys.SCHEDULING_GATE} off by hand",
}

Change = Callable[[Object], Object | None]
"""The patch that an object needs, or None."""
log = logging.getLogger(__name__)


async def uninstall(kube: KubeClient, namespace: str | None) -> tuple[int, int]:
    """Do both, the second also if the first failed; answers how many pods and checkpoints were let go.

    Raises:
        KubeError: a call failed, or something may not be changed; the words name it.
    """
    try:
        held = await open_all(kube, namespace)
    except KubeError:
        await release_all(kube, namespace)
        raise
    return held, await release_all(kube, namespace)


async def release_all(kube: KubeClient, namespace: str | None) -> int:
    """Take our finalizer off the checkpoints of *namespace* (None: of all); answers how many had it.

    Raises:
        KubeError: a call failed.
    """
    return await _change_all(kube, CHECKPOINTS, namespace, _without_finalizer, PatchKind.MERGE)


async def open_all(kube: KubeClient, namespace: str | None) -> int:
    """Let the held pods of *namespace* (None: of all) go; answers how many were held.

    Raises:
        KubeError: a call failed.
    """
    return await _change_all(kube, PODS, namespace, _without_gate, PatchKind.STRATEGIC, HELD)


def _without_finalizer(checkpoint: Object) -> Object | None:
    finalizers = checkpoint["metadata"].get("finalizers") or ()
    others = [each for each in finalizers if each != keys.FINALIZER]
    return {"metadata": {"finalizers": others}} if len(others) < len(finalizers) else None


def _without_gate(pod: Object) -> Object | None:
    if not pods.held(pod) or pods.required(pod):
        return None
    # Takes away our gate by its name and leaves those of others.
    gates = [{"$patch": "delete", "name": keys.SCHEDULING_GATE}]
    return {"metadata": {"annotations": {keys.ANN_GATE: GateEnd.UNINSTALLED}}, "spec": {"schedulingGates": gates}}


@dataclass
class _Pass:
    """How one way through the objects went."""

    done: set[str] = field(default_factory=set)
    lost: str = ""
    """One that another client changed at the same moment."""
    refused: dict[str, str] = field(default_factory=dict)
    """The server's words about what may not be changed."""


async def _change_all(
    kube: KubeClient, resource: Resource, namespace: str | None, change: Change, kind: PatchKind, labels: str = ""
) -> int:
    """Patch every object that *change* has a patch for, and look again after a lost race."""
    done: set[str] = set()
    for _ in range(ATTEMPTS):
        try:
            found = (await kube.list(resource, namespace, labels=labels)).items
        except NotFoundError:
            return 0  # the CRD was deleted, and all checkpoints with it
        went = await _once(kube, resource, found, change, kind)
        done |= went.done
        if went.lost:
            continue
        if went.refused:
            raise ForbiddenError(403, "Forbidden", _refusals(resource, went.refused))
        return len(done)
    raise ConflictError(409, "Conflict", f"{went.lost} changes all the time; try again")


async def _once(
    kube: KubeClient, resource: Resource, found: Iterable[Object], change: Change, kind: PatchKind
) -> _Pass:
    went = _Pass()
    for each in found:
        name = f"{each['metadata']['namespace']}/{each['metadata']['name']}"
        try:
            if await _change(kube, resource, each, change(each), kind):
                went.done.add(name)
        except ConflictError:
            went.lost = name
        except REFUSALS as error:
            went.refused[name] = str(error)
    return went


def _refusals(resource: Resource, refused: Mapping[str, str]) -> str:
    name, words = next(iter(refused.items()))
    more = f" and {len(refused) - 1} more" if len(refused) > 1 else ""
    return (
        f"{resource.kind} {name}{more} may not be let go: {words}; change what refuses it and run this again, or "
        f"{_BY_HAND[resource]}"
    )


async def _change(kube: KubeClient, resource: Resource, about: Object, body: Object | None, kind: PatchKind) -> bool:
    if body is None:
        return False
    metadata = about["metadata"]
    guarded = body | {"metadata": {**body["metadata"], "resourceVersion": metadata["resourceVersion"]}}
    try:
        await kube.patch(resource, metadata["name"], guarded, metadata["namespace"], kind=kind)
    except NotFoundError:
        return False
    log.info("let go", extra={"kind": resource.kind, "namespace": metadata["namespace"], "object": metadata["name"]})
    return True


async def _process() -> None:
    settings = read_settings()
    logs.configure(settings.log_level)
    async with await connect(user_agent="dynamo-snapshot/farewell") as kube:
        held, count = await uninstall(kube, settings.watched_namespace)
    log.info("%d held pods and %d checkpoints let go; their artifacts stay", held, count)


if __name__ == "__main__":
    sys.exit(main(_process))
