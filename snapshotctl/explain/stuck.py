"""What keeps a pod from starting at all, in the words of Kubernetes: no restore can begin before that is over."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

_ON_ITS_WAY: Final = ("", "ContainerCreating", "PodInitializing")


def start_problems(pod: Mapping[str, Any]) -> tuple[str, ...]:
    """Say that a pod has no node, or which of its containers cannot be started."""
    status = pod.get("status") or {}
    return (*_unscheduled(status), *_waiting(status))


def _unscheduled(status: Mapping[str, Any]) -> Iterator[str]:
    for entry in status.get("conditions") or ():
        # The other reason is a scheduling gate, which is ours or has its own owner.
        if entry.get("type") == "PodScheduled" and entry.get("reason") == "Unschedulable":
            yield f"it has no node yet: {entry.get('message') or 'the scheduler does not say why'}"


def _waiting(status: Mapping[str, Any]) -> Iterator[str]:
    for entry in (*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())):
        found = (entry.get("state") or {}).get("waiting") or {}
        if (reason := str(found.get("reason") or "")) not in _ON_ITS_WAY:
            words = f": {found['message']}" if found.get("message") else ""
            yield f"container {entry.get('name')} waits: {reason}{words}"
