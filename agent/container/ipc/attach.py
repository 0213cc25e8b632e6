"""Has restored processes attach the System V memory that they had, by calls that they are lent."""

import errno
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from agent.container.network import in_namespace
from agent.errors import CriuError
from artifact.ipc import Attachment, Segment, SysvIpc
from contract.api.states import AgentReason
from linux.ipc import calls
from linux.proc import Status
from linux.ptrace.lent_call import Borrowed, OtherCallsError, borrowed

_MPROTECT, _MADVISE, _SHMAT, _MLOCK = 10, 28, 30, 149
_READ_ONLY: Final = 0o10000
"""SHM_RDONLY."""
_READ, _WRITE = 1, 2
_OWNERS: Final = 0o600


def attach(found: SysvIpc, tree: Mapping[int, Status], init_pid: int, proc: Path) -> None:
    """Attach each segment as it was; those that were removed (IPC_RMID) are from then on again.

    Args:
        found: all System V objects, which are there.
        tree: processes that are stopped, by their pid on the node.
        init_pid: of the container.
        proc: /proc of the node.

    Raises:
        CriuError: ``restore-failed``.
    """
    try:
        in_namespace("ipc", init_pid, lambda: _attach_all(found, tree), proc)
    except OtherCallsError as error:
        words = "a process of 32 bits cannot be had to attach System V memory"
        raise CriuError(AgentReason.RESTORE_FAILED, words) from error
    except (OSError, ValueError) as error:
        words = f"the worker's System V memory cannot be attached: {error}"
        raise CriuError(AgentReason.RESTORE_FAILED, words) from error


def _attach_all(found: SysvIpc, tree: Mapping[int, Status]) -> None:
    segments = {each.id: each for each in found.segments}
    processes = {status.inner_pid: status for status in tree.values()}
    by_process = dict[int, list[Attachment]]()
    for each in found.attachments:
        by_process.setdefault(each.process, []).append(each)
    for number, attachments in by_process.items():
        if (status := processes.get(number)) is None:
            raise ValueError(f"the worker has no process {number}")
        with borrowed(status.pid) as process:
            for each in attachments:
                _attach_one(process, status, each, segments[each.id])
    for segment in found.segments:
        if segment.ends_unattached:
            calls.remove(calls.SHM, segment.id)


def _attach_one(process: Borrowed, status: Status, each: Attachment, segment: Segment) -> None:
    """Attach a segment to one process, and cut it into pieces as it was."""
    flags = _READ_ONLY if each.read_only else 0
    answer = process.call(_SHMAT, each.id, each.start, flags)
    if answer == -errno.EACCES:
        # What a process attached before it became another user, or inherited from one, it may not attach itself.
        calls.set_owner(calls.SHM, each.id, status.uid, segment.gid, segment.mode | _OWNERS)
        try:
            answer = process.call(_SHMAT, each.id, each.start, flags)
        finally:
            calls.set_owner(calls.SHM, each.id, segment.uid, segment.gid, segment.mode)
    if answer != each.start:
        raise ValueError(f"process {status.inner_pid} cannot attach segment {each.id} (error {-answer})")
    for piece in each.mappings:
        asked = [(_MPROTECT, piece.protection)] if piece.protection != _given(each) else []
        asked += [(_MADVISE, number) for number in range(piece.advice.bit_length()) if piece.advice >> number & 1]
        asked += [(_MLOCK, 0)] if piece.locked else []
        for call, word in asked:
            if (answer := process.call(call, piece.start, piece.size, word)) != 0:
                words = f"memory at {piece.start:#x} of process {status.inner_pid} cannot be made as it was"
                raise ValueError(f"{words} (call {call}, error {-answer})")


def _given(each: Attachment) -> int:
    """Return the protection that shmat(2) gives."""
    return _READ if each.read_only else _READ | _WRITE
