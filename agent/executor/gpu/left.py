"""Finds containers whose devices an agent took that was killed during a capture, and has them go on."""

import logging
from pathlib import Path
from typing import Final

from agent.executor.acquire import AcquiredContainer
from agent.executor.api import ContainerRef
from agent.executor.capture.running import acquire_running, undo_left
from agent.executor.environment import NodeEnvironment
from contract.api import control_files, keys
from contract.api.errors import SnapshotError

_NOTES: Final = f"*/volumes/kubernetes.io~empty-dir/{keys.CONTROL_VOLUME}/*/{control_files.DEVICES}"
MOST_OF_A_POD: Final = 8
"""A pod may put any number of folders beside those of its containers, and each costs a look at all processes."""
logger = logging.getLogger(__name__)


def find_left(kubelet_pods: Path) -> list[ContainerRef]:
    """Return the containers of this node whose devices an agent has noted that it took."""
    found: dict[str, list[ContainerRef]] = {}
    for path in kubelet_pods.glob(_NOTES):
        parts = path.relative_to(kubelet_pods).parts
        of_pod = found.setdefault(parts[0], [])
        if len(of_pod) < MOST_OF_A_POD:
            of_pod.append(ContainerRef("", "", parts[0], parts[-2]))
    return [place for of_pod in found.values() for place in of_pod]


def settle(place: ContainerRef, environment: NodeEnvironment) -> None:
    """Undo what is left in a container, unless another agent is at work in it."""
    acquired = acquire_running(place, environment)
    if not isinstance(acquired, AcquiredContainer):
        return
    facts = {"pod": place.pod_uid, "container": place.container}
    try:
        undo_left(acquired.lock, acquired.waiting.init_pid, environment)
    except (SnapshotError, OSError) as error:
        logger.warning("an agent died during a capture, and left what is not undone: %s", error, extra=facts)
    else:
        logger.warning("an agent died during a capture; the worker goes on as it was", extra=facts)
    finally:
        acquired.close()
