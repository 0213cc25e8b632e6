"""What is said of an error that ended a capture or restore."""

import errno

import pytest

from agent.errors import ContainerError, CriuError, RefusedError
from agent.executor.explain import explain, explain_capture
from contract.api.states import AgentReason
from linux.filetree import FileTreeError


@pytest.mark.parametrize(
    ("code", "words", "error"),
    [
        pytest.param(AgentReason.DUMP_FAILED, "why", CriuError(AgentReason.DUMP_FAILED, "why"), id="ours"),
        pytest.param(AgentReason.FILES_FAILED, "the worker's files: /a", FileTreeError("/a"), id="files"),
        pytest.param(AgentReason.INTERNAL_ERROR, "ValueError: x", ValueError("x"), id="unexpected"),
        pytest.param(AgentReason.INTERNAL_ERROR, "PermissionError", PermissionError(errno.EPERM, "no"), id="system"),
    ],
)
def test_an_error_has_a_code_and_a_sentence(code, words, error):
    for explained in (explain(error), explain_capture(error)):
        assert code == explained[0]
        assert words in explained[1]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT], ids=errno.errorcode.get)
def test_a_capture_that_finds_no_room_says_where(number):
    """Its files all go to checkpoint storage; those of a restore go into the container."""
    code, words = explain_capture(OSError(number, "no room"))

    assert (AgentReason.STORAGE_UNWRITABLE, "checkpoint storage: no room; is it full?") == (code, words)
    assert AgentReason.INTERNAL_ERROR == explain(OSError(number, "no room"))[0]


@pytest.mark.parametrize(
    ("expected", "error"),
    [
        pytest.param(AgentReason.NO_WORKER, ProcessLookupError("7"), id="of-the-kernel"),
        pytest.param(AgentReason.NO_WORKER, CriuError(AgentReason.DUMP_FAILED, "criu failed"), id="of-criu"),
        pytest.param(AgentReason.NO_WORKER, ContainerError(AgentReason.DUMP_FAILED, "not asked"), id="of-a-process"),
        pytest.param(AgentReason.GPU_BUSY, ContainerError(AgentReason.GPU_BUSY, "busy"), id="another-reason"),
        pytest.param(AgentReason.IO_URING, RefusedError(AgentReason.IO_URING, "has one"), id="refused"),
    ],
)
def test_what_follows_from_the_containers_end_says_so(expected, error):
    code, words = explain_capture(error, lambda: True)
    assert (expected, expected == AgentReason.NO_WORKER) == (code, "the container ended" in words)
    assert str(error) in words
