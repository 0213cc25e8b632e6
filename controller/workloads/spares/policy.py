"""Which parked pods go on; pure, from the pods as they are.

All pods of such a checkpoint are parked once they are restored. Of each workload as many stay so as ``spec.parked``
says, and at least one runs. Nothing is counted down: who looks at the same pods comes to the same answer.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime

from contract.api import keys
from contract.api.checkpoint import annotations_of, controller_of
from contract.api.conditions import condition
from contract.api.states import RestoreStatus
from contract.api.times import parsed_time
from contract.pods.parking import is_woken
from controller.workloads import pods
from kube.api import Object


def to_wake(users: Iterable[Object], parked: int) -> list[Object]:
    """Return the pods to wake, of all workloads.

    Args:
        users: pods that name the checkpoint; those that are parked by their own annotation are left to their owner.
        parked: how many of each workload stay parked.
    """
    workloads: dict[str, list[Object]] = defaultdict(list)
    for pod in users:
        if pods.spare(pod) and pods.alive(pod):
            workloads[str((controller_of(pod) or {}).get("uid", ""))].append(pod)
    return [pod for group in workloads.values() for pod in _of_workload(group, parked)]


def face(pod: Object) -> tuple[object, ...]:
    """Return what of a pod the answer depends on."""
    return pods.spare(pod), pods.alive(pod), is_woken(pod), _statuses(pod), _ready(pod)


def _of_workload(group: Sequence[Object], parked: int) -> list[Object]:
    running = [pod for pod in group if is_woken(pod) or RestoreStatus.FAILED in _statuses(pod)]
    if all(map(_is_lost, running)):
        running = []  # another takes over; if one comes back, there is one more
    candidates = [pod for pod in group if not is_woken(pod) and RestoreStatus.FAILED not in _statuses(pod)]
    candidates.sort(key=lambda pod: (RestoreStatus.PARKED not in _statuses(pod), pods.created(pod)))
    return candidates[: max(0, max(1, len(group) - parked) - len(running))]


def _is_lost(pod: Object) -> bool:
    """Say whether a woken pod was ready, and is not any more."""
    woken = parsed_time(annotations_of(pod).get(keys.ANN_WAKE))
    ready, since = _ready(pod)
    return not ready and woken is not None and since is not None and since > woken


def _ready(pod: Object) -> tuple[bool, datetime | None]:
    found = condition(pod, "Ready") or {}
    return found.get("status") == "True", parsed_time(found.get("lastTransitionTime"))


def _statuses(pod: Object) -> frozenset[str]:
    prefix = keys.ANN_RESTORE_STATUS_PREFIX
    return frozenset(value for key, value in annotations_of(pod).items() if key.startswith(prefix))
