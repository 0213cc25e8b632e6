"""Names of the cluster's objects for the shell's completion; none if the cluster does not answer at once.

The client is imported before the clock starts: on a busy machine the import takes most of the time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final

from contract.api import keys
from kube.client import connect
from kube.resources import CHECKPOINTS, NAMESPACES, PODS, Resource

PATIENCE: Final = 2.0
"""Seconds that a person waits after the tab key without wondering."""
_WAITING: Final = f"{keys.LABEL_IS_RESTORE_TARGET}=true,!{keys.LABEL_CHECKPOINT_ID}"
"""Pods that were shaped for a restore, and name no checkpoint."""
_LISTS: Final = {each.plural: (each, "") for each in (CHECKPOINTS, NAMESPACES, PODS)} | {
    "placeholders": (PODS, _WAITING),
    "parked": (PODS, f"{keys.LABEL_OUTCOME}={keys.OUTCOME_PARKED}"),
}
"""What is listed, and the selector of its labels."""


def names(plural: str, options: Mapping[str, Any]) -> list[str]:
    """List the names of a kind, in the cluster and namespace of the options that were typed so far."""
    try:
        return asyncio.run(asyncio.wait_for(_names(*_LISTS[plural], options), PATIENCE))
    except Exception:  # noqa: BLE001 - a traceback in the middle of a command line helps no one
        return []


async def _names(resource: Resource, labels: str, options: Mapping[str, Any]) -> list[str]:
    given = options.get
    async with await connect(given("kubeconfig"), given("kube_context"), user_agent="snapshotctl") as kube:
        scope = (given("namespace") or kube.namespace) if resource.namespaced else None
        listing = await kube.list(resource, scope, labels=labels)
    return [str(obj["metadata"]["name"]) for obj in listing.items]
