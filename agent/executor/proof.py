"""Proves an artifact: restores it in the container that it was captured in, before anything says that it is there.

A CUDA checkpoint, or a dump, that succeeds proves nothing: the driver refuses shared device memory only at the restore,
and so does criu much else. The restored worker runs until its probe passes and it answers its canary, if it has one. A
worker without either is restored and not woken: it may be a batch job, whose work must not be done twice. Then the tree
is ended, and what the restore did to the container is undone.
"""

import logging
import time
from collections.abc import Collection
from pathlib import Path
from typing import Final

from agent.container.network import free_ports
from agent.errors import ContainerError, CriuError
from agent.executor.phases import run_phases, undo_phases
from agent.executor.restore.context import context
from agent.executor.restore.phases import RESTORE
from agent.executor.restore.state import Restore
from agent.executor.restore.verdict import to_wake
from agent.executor.serving import NotServingError, Questions, await_answers, forget_woken, wake
from agent.executor.timings import Timings
from artifact.hot_set import RANGE_BYTES, hot_bytes, write_hot_set
from artifact.publish import Staging
from contract.api.engine import Choice
from contract.api.reports import ReportPhase
from contract.api.states import AgentReason

logger = logging.getLogger(__name__)
_LEFT_OUT: Final = (
    ReportPhase.OPEN,
    ReportPhase.VERIFY,
    ReportPhase.VERIFIED,
    ReportPhase.CANARY,
    ReportPhase.VERDICT,
)
PROOF: Final = tuple(phase for phase in RESTORE if phase.name not in _LEFT_OUT)
"""The restore's own phases; what was just verified is open already, the canary is asked below, and standby waits for
another verdict."""
END_SECONDS: Final = 10.0
"""How long the captured processes may take to be reaped: criu needs their pids."""
_PAUSE: Final = 0.02


def prove(restore: Restore, captured: Collection[int], ports: Collection[int], questions: Questions) -> bytes:
    """Restore an artifact into its own container, see the worker serve, and return the hot set.

    Args:
        restore: with the artifact, for the container of the capture.
        captured: host pids of the processes that were dumped.
        ports: that its TCP sockets are bound to.
        questions: what the restored worker is asked.

    Raises:
        ContainerError: ``proof-failed``, with the phase.
    """
    _await_end(captured, restore.environment.proc)
    free_ports(restore.init_pid, ports, restore.environment.proc)
    restore.records = True
    with restore.resources:
        failure = run_phases(PROOF, restore, Timings())
        if failure is not None:
            raise ContainerError(
                AgentReason.PROOF_FAILED,
                f"the artifact cannot be restored, not even where it was captured: {failure.phase.value}: "
                f"{failure.error}",
            ) from failure.error
        try:
            if questions:
                wake(to_wake(restore), restore.lock.control, context(restore))
                await_answers(questions, restore.tree, restore.init_pid, restore.lock.control, restore.environment.proc)
            return restore.pages.recorded() if restore.pages is not None else b""
        except (NotServingError, CriuError) as error:
            raise ContainerError(AgentReason.PROOF_FAILED, str(error)) from error
        finally:
            undo_phases(PROOF, restore)
            forget_woken(restore.lock.control)


def _await_end(pids: Collection[int], proc: Path) -> None:
    end = time.monotonic() + END_SECONDS
    while left := [pid for pid in pids if (proc / str(pid)).exists()]:
        if time.monotonic() > end:
            raise ContainerError(AgentReason.PROOF_FAILED, f"captured processes {left[:5]} do not end")
        time.sleep(_PAUSE)


def keep_hot_set(staged: Staging, digest: str, ranges: bytes, memory: Choice) -> None:
    """Put what a proof recorded beside the manifest: worth having, and no reason to fail a capture.

    Args:
        staged: the sealed artifact.
        digest: of its manifest.
        ranges: as ``prove`` returned them.
        memory: how the worker's memory came back.
    """
    if not ranges:
        logger.info("no hot set was recorded", extra={"memory": str(memory)})
        return
    facts = {"ranges": len(ranges) // RANGE_BYTES, "bytes": hot_bytes(ranges)}
    try:
        write_hot_set(staged, ranges, digest)
        logger.info("hot set recorded", extra=facts)
    except OSError as error:
        logger.warning("the hot set cannot be kept", extra=facts | {"reason": str(error)})
