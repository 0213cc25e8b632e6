"""What is said of an error that ended a capture or restore: a code of the closed list, and a sentence."""

import errno
import logging
from typing import Final

from artifact.publish import unwritable
from contract.api.errors import SnapshotError
from contract.api.states import AgentReason
from linux.filetree import FileTreeError

_FULL: Final = (errno.ENOSPC, errno.EDQUOT)
logger = logging.getLogger(__name__)


def explain_capture(error: Exception) -> tuple[AgentReason, str]:
    """Explain an error of a capture: it writes to checkpoint storage alone, so no other disk can be the full one."""
    if isinstance(error, OSError) and error.errno in _FULL:
        return explain(unwritable(error))
    return explain(error)


def explain(error: Exception) -> tuple[AgentReason, str]:
    """Return code and sentence; an unexpected error is logged with its traceback."""
    if isinstance(error, SnapshotError):
        return error.code, str(error)
    if isinstance(error, FileTreeError):
        return AgentReason.FILES_FAILED, f"the worker's files: {error}"
    logger.error("unexpected failure", exc_info=error)
    return AgentReason.INTERNAL_ERROR, f"{type(error).__name__}: {error}"
