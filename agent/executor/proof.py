"""Proves an artifact: restores it in the container that it was captured in, before anything says that it is there.

A CUDA checkpoint, or a dump, that succeeds proves nothing: the driver refuses shared device memory only at the restore,
and so does criu much else. The restored worker runs until its probe passes. One without a probe that can be asked from
outside is restored and not woken: it may be a batch job, whose work must not be done twice. Then the tree is ended, and
what the restore did to the container is undone.
"""

import os
import signal
import time
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import Final

from agent.container.probe import free_ports, passes
from agent.errors import ContainerError
from agent.executor.phases import run_phases, undo_phases
from agent.executor.restore import RESTORE, Restore, context
from agent.executor.timings import Timings
from contract.api import control_files
from contract.api.reports import ReportPhase
from contract.api.states import AgentReason
from contract.pods.probe import Probe
from linux.proc import is_alive

PROOF: Final = tuple(phase for phase in RESTORE if phase.name not in (ReportPhase.VERIFY, ReportPhase.VERDICT))
"""The restore's own phases; what was just verified is not read again, and standby has another verdict to wait for."""
END_SECONDS: Final = 10.0
"""How long the captured processes may take to be reaped: criu needs their pids."""
PROBE_SECONDS: Final = 60.0
_PAUSE: Final = 0.02


def prove(restore: Restore, captured: Collection[int], probe: Probe | None) -> None:
    """Restore the artifact that *restore* asks for into its own container, and see the worker serve.

    Args:
        restore: the request, for the container of the capture.
        captured: host pids of the processes that were dumped.
        probe: the worker's own; None if it has none that can be asked from outside: the tree is then not woken.

    Raises:
        ContainerError: ``proof-failed``, with the phase.
    """
    _await_end(captured, restore.environment.proc)
    free_ports(restore.init_pid, restore.environment.proc)
    with restore.resources:
        failure = run_phases(PROOF, restore, Timings())
        if failure is not None:
            raise ContainerError(
                AgentReason.PROOF_FAILED,
                f"the artifact cannot be restored, not even where it was captured: {failure.phase.value}: "
                f"{failure.error}",
            ) from failure.error
        try:
            if probe is not None:
                _wake(restore)
                _await_service(restore, probe)
        finally:
            undo_phases(PROOF, restore)
            for name in (control_files.RESTORE_COMPLETE, control_files.RESTORE_CONTEXT):
                restore.lock.control.remove(name)


def _await_end(pids: Collection[int], proc: Path) -> None:
    end = time.monotonic() + END_SECONDS
    while left := [pid for pid in pids if (proc / str(pid)).exists()]:
        if time.monotonic() > end:
            raise ContainerError(AgentReason.PROOF_FAILED, f"captured processes {left[:5]} do not end")
        time.sleep(_PAUSE)


def _wake(restore: Restore) -> None:
    """Let the tree run, with the files that a restored worker finds."""
    restore.lock.control.write(control_files.RESTORE_CONTEXT, context(restore.request))
    restore.lock.control.write(control_files.RESTORE_COMPLETE, control_files.DONE)
    for pid in restore.tree:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def _await_service(restore: Restore, probe: Probe) -> None:
    started, root = time.monotonic(), next(iter(restore.tree))
    while True:
        if not is_alive(root, restore.environment.proc):
            raise ContainerError(AgentReason.PROOF_FAILED, "the restored worker ended at once; see the container's log")
        if passes(probe, restore.init_pid, restore.environment.proc):
            return
        if time.monotonic() - started > PROBE_SECONDS:
            words = f"the restored worker's probe does not pass within {PROBE_SECONDS:.0f} s"
            raise ContainerError(AgentReason.PROOF_FAILED, words)
        time.sleep(_PAUSE)
