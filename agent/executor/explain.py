"""What is said of an error that ended a capture or restore: a code of the closed list, and a sentence."""

import errno
import logging
from collections.abc import Callable
from typing import Final

from agent.errors import ContainerError, CriuError
from artifact.publish import unwritable
from contract.api.errors import SnapshotError
from contract.api.states import AgentReason
from linux.filetree import FileTreeError

_FULL: Final = (errno.ENOSPC, errno.EDQUOT)
logger = logging.getLogger(__name__)


def explain_capture(error: Exception, has_ended: Callable[[], bool] = lambda: False) -> tuple[AgentReason, str]:
    """Explain an error of a capture: it writes to checkpoint storage alone, so no other disk can be the full one.

    Args:
        error: what failed.
        has_ended: says whether the container has; whatever was looked for in it then is not there.
    """
    if _may_follow_from_its_end(error) and has_ended():
        return AgentReason.NO_WORKER, f"the container ended while it was captured ({error})"
    if isinstance(error, OSError) and error.errno in _FULL:
        return explain(unwritable(error))
    return explain(error)


def _may_follow_from_its_end(error: Exception) -> bool:
    """Say so of what criu, the kernel, or a process that was asked said; others have said what ended already."""
    is_failed_look = isinstance(error, ContainerError) and error.code == AgentReason.DUMP_FAILED
    return isinstance(error, OSError | CriuError) or is_failed_look


def explain(error: Exception) -> tuple[AgentReason, str]:
    """Return code and sentence; an unexpected error is logged with its traceback."""
    if isinstance(error, SnapshotError):
        return error.code, str(error)
    if isinstance(error, FileTreeError):
        return AgentReason.FILES_FAILED, f"the worker's files: {error}"
    logger.error("unexpected failure", exc_info=error)
    return AgentReason.INTERNAL_ERROR, f"{type(error).__name__}: {error}"
