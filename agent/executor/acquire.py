"""Finds the standby that waits in a container of a pod, and locks the container."""

import time
from dataclasses import dataclass, field
from typing import Final

from agent.container.find import find_container
from agent.errors import ContainerError
from agent.executor import lock
from agent.executor.api import ContainerRef, ExecutionResult
from agent.executor.environment import NodeEnvironment
from agent.executor.lock import ContainerLock, ControlDir
from contract.api import control_files
from contract.api.states import AgentReason
from contract.config.storage import BadIdError

STANDBY: Final = "snapshot-standby"


@dataclass(frozen=True)
class WaitingContainer:
    """A container whose standby waits for us."""

    init_pid: int
    container_id: str
    control: ControlDir


@dataclass(frozen=True)
class AcquiredContainer:
    """A container that this agent alone may change until this is closed, or until this process dies."""

    lock: ContainerLock
    waiting: WaitingContainer
    since: float = field(default_factory=time.monotonic)

    def is_of(self, place: ContainerRef) -> bool:
        """Say whether it is the container that is meant, or any of that name is."""
        return place.container_id in ("", self.waiting.container_id)

    def close(self) -> None:
        """Release the lock; the verdict, if any, was written before."""
        self.lock.release()
        self.waiting.control.close()


NOT_YET: Final = ExecutionResult(
    ok=False, reason=AgentReason.STANDBY_NOT_UP, message="the container's standby does not wait (yet)", retry=True
)
ANOTHER: Final = ExecutionResult(
    ok=False,
    reason=AgentReason.STANDBY_NOT_UP,
    message="the container was started again since its pod was looked at",
    retry=True,
)
STARTED: Final = ExecutionResult(
    ok=False, reason=AgentReason.ALREADY_STARTED, message="the container has started before an agent could claim it"
)


def claimable(place: ContainerRef, environment: NodeEnvironment) -> bool:
    """Say whether there is a claim file; cheap, as it runs fifty times a second for every pod yet to start."""
    try:
        directory = lock.open_control_dir(environment.kubelet_pods, place.pod_uid, place.container)
    except (OSError, BadIdError):
        return False
    with ControlDir(directory) as control_dir:
        return control_dir.has(control_files.CLAIM)


def find(place: ContainerRef, environment: NodeEnvironment) -> WaitingContainer | None:
    """Find the container's standby; None if there is none (yet).

    Raises:
        ContainerError: the container has started by itself, so there never will be.
    """
    try:
        directory = lock.open_control_dir(environment.kubelet_pods, place.pod_uid, place.container)
    except (OSError, BadIdError):
        return None
    control_dir = ControlDir(directory)
    found = None
    if control_dir.has(control_files.CLAIM):
        with environment.turn.taken():
            found = find_container(place.pod_uid, place.container, environment.pod_groups, environment.proc)
    if found is not None and found.program == STANDBY:
        return WaitingContainer(found.init_pid, found.container_id, control_dir)
    started = found is not None and control_dir.has(control_files.RESTORE_COMPLETE)
    control_dir.close()
    if started:
        raise ContainerError(AgentReason.ALREADY_STARTED, STARTED.message)
    return None


def acquire(place: ContainerRef, environment: NodeEnvironment) -> AcquiredContainer | ExecutionResult:
    """Acquire the container, or say why it cannot be acquired (yet)."""
    try:
        waiting = find(place, environment)
    except ContainerError as error:
        return ExecutionResult(ok=False, reason=error.code, message=str(error))
    if waiting is None:
        return NOT_YET
    try:
        return AcquiredContainer(lock.acquire(waiting.control, waiting.init_pid, environment.proc), waiting)
    except ContainerError:
        started = waiting.control.has(control_files.RESTORE_COMPLETE)
        waiting.control.close()
    return STARTED if started else NOT_YET
