"""The second half: a parked worker gets its devices, answers its owner's question, and goes on.

Everything is worked out again from the artifact and the container, so it makes no difference whether the agent that
parked the worker is still there. From the first phase on standby knows of no parked worker any more: if this agent
dies, the next one ends what is there and restores from the beginning.
"""

import time
from collections.abc import Sequence
from typing import Final

from agent.container.files.rootfs import Changes
from agent.container.inspection import inspect
from agent.container.rights import refuse_wider_tree
from agent.errors import ContainerError, RefusedError
from agent.executor.phases import Phase, undo_phases
from agent.executor.restore.checks import DEVICE_CHECKS, judge, plan_restore
from agent.executor.restore.engine_plan import Stage, plan_engine
from agent.executor.restore.inspection import bypass_of, offer_of, place_of, rights_of, volumes_of
from agent.executor.restore.state import Restore, of_pod
from agent.executor.restore.tree import await_stopped
from artifact.read import verify
from contract.api import control_files
from contract.api.reports import ReportPhase
from contract.api.states import AgentReason

MEMORY_SECONDS: Final = 20.0
"""How long the one before may take to leave the device: a worker is woken when another ends."""
_PAUSE: Final = 0.05


def wake_phases(restore: Sequence[Phase[Restore]]) -> tuple[Phase[Restore], ...]:
    """Return the phases that make a restored worker of a parked one; pure."""
    phases = {phase.name: phase for phase in restore}
    return (
        Phase(ReportPhase.WAKE, _take_over, undo=lambda state: undo_phases(restore, state)),
        phases[ReportPhase.OPEN],
        Phase(ReportPhase.VERIFY, _verify),
        Phase(ReportPhase.INSPECT, _inspect),
        phases[ReportPhase.GPU_PREFETCH],
        Phase(ReportPhase.LOOK, _find_tree),
        phases[ReportPhase.GPU_RESTORE],
        phases[ReportPhase.CANARY],
        phases[ReportPhase.VERDICT],
    )


def _take_over(restore: Restore) -> None:
    restore.parked = restore.lock.parked_digest()
    restore.lock.control.remove(control_files.PARKED)


def _verify(restore: Restore) -> None:
    """Verify what is still to be read: the device memory that is in files of its own, of the very artifact."""
    if restore.artifact.digest != restore.parked:
        words = "the worker was parked from another artifact than the pod names now; name the former, or delete the pod"
        raise ContainerError(AgentReason.CHECKPOINT_CHANGED, words)
    gpu = restore.artifact.manifest.gpu
    names = [name for memory in gpu.outside for name in memory.names] if gpu is not None else []
    verify(restore.artifact, restore.environment.verified, names)


def _inspect(restore: Restore) -> None:
    """Compare the devices, and no more: the worker's memory and pids are in use by now, by itself."""
    environment, manifest = restore.environment, restore.artifact.manifest
    restore.seen = inspect(restore.init_pid, environment.proc, of_pod(restore))
    restore.plan = plan_restore(manifest, restore.seen, Changes())
    restore.rights = rights_of(restore)
    restore.weights = volumes_of(restore).open_weights(restore.artifact, restore.resources)
    end = time.monotonic() + MEMORY_SECONDS
    while True:
        try:
            restore.bypassed = judge(manifest, place_of(restore), bypass_of(restore), DEVICE_CHECKS)
        except RefusedError as error:
            if error.code != AgentReason.GPU_MEMORY or time.monotonic() > end:
                raise
            time.sleep(_PAUSE)
        else:
            restore.engine = plan_engine(offer_of(restore, Stage.WAKE))
            return


def _find_tree(restore: Restore) -> None:
    """Find the tree as it was parked: whole, and stopped."""
    try:
        restore.tree = await_stopped(restore)
    except ContainerError as error:
        words = "the parked worker is not there whole and stopped: a process of it has ended, or another continued it"
        raise ContainerError(error.code, words) from error
    refuse_wider_tree(restore.tree, restore.rights, restore.environment.proc)
