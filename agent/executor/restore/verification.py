"""Verifies what is used from storage: what the agent goes by at once, memory while the restore goes on.

Memory is most of an artifact. The host's must be right before criu reads it, which looks for a vdso in it. That of
devices makes sense to none but the worker, so it is enough to know it right when the worker runs: a first restore on a
node waits for the sums of what is not read by then.
"""

import time
from collections.abc import Sequence

from agent.criu.images.own import memory_in, read_in_place
from agent.executor.restore.state import Restore, refuse_late
from artifact.read import verify
from artifact.verifier import Verifier
from contract.api.reports import ReportPhase, Step


def verify_artifact(restore: Restore) -> None:
    """Verify what the agent goes by, and begin with memory; what is copied is verified as it is copied."""
    verified, names = restore.environment.verified, read_in_place(restore.artifact.manifest.files)
    host, device = memory_in(names)
    verify(restore.artifact, verified, set(names).difference(host, device))
    restore.verifier = Verifier(restore.artifact, verified, [*host, *device])
    restore.resources.callback(restore.verifier.stop)


def await_host_memory(restore: Restore) -> Sequence[Step]:
    """Wait until the host's memory is known to be right; answers that step."""
    start = time.monotonic()
    if restore.verifier is not None:
        restore.verifier.wait(_host_memory(restore))
        refuse_late(restore)
    refuse_changed_memory(restore)
    return [Step(ReportPhase.VERIFIED, start, time.monotonic() - start)]


def refuse_changed_memory(restore: Restore) -> None:
    """Refuse files of the host's memory that are not what they were when their sums were taken."""
    restore.artifact.refuse_changed(_host_memory(restore))


def _host_memory(restore: Restore) -> Sequence[str]:
    host, _ = memory_in(read_in_place(restore.artifact.manifest.files))
    return host


def await_memory(restore: Restore) -> None:
    """Wait until all memory is known to be right: the worker runs next."""
    if restore.verifier is not None:
        restore.verifier.wait(read_in_place(restore.artifact.manifest.files))
