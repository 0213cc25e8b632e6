"""Makes POSIX message queues in the IPC namespace of a container, and removes them again."""

import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from agent.container.network import in_namespace
from agent.errors import ContainerError, RefusedError
from artifact.queues import PosixQueues
from contract.api.states import AgentReason
from linux.ipc import mqueue
from linux.ipc.mqueue import QueueState

_KEPT: Final = os.O_ACCMODE | os.O_NONBLOCK
"""Of the flags that a queue was opened with."""


def make(
    found: PosixQueues, init_pid: int, proc: Path, note: Callable[[str], None], resources: ExitStack
) -> dict[int, int]:
    """Make all queues, and open them; return a descriptor of each open file by its number in the images.

    Args:
        found: what is made.
        init_pid: of the container.
        proc: where processes show.
        note: called with the name of each that was made, at once.
        resources: closes the files.

    Raises:
        RefusedError: ``sysv-ipc-taken``: the pod has a queue of one of the names.
        ContainerError: ``restore-failed``: they cannot be made.
    """
    try:
        return in_namespace("ipc", init_pid, lambda: _make(found, note, resources), proc)
    except FileExistsError as error:
        words = f"the pod has the POSIX message {error.filename} already, and the worker had one of that name"
        raise RefusedError(AgentReason.SYSV_IPC_TAKEN, words) from error
    except OSError as error:
        words = f"the worker's POSIX message queues cannot be made: {error.strerror} ({error.filename})"
        raise ContainerError(AgentReason.RESTORE_FAILED, words) from error


def _make(found: PosixQueues, note: Callable[[str], None], resources: ExitStack) -> dict[int, int]:
    for each in found.queues:
        messages = [(message.priority, message.text) for message in each.messages]
        mqueue.make(QueueState(each.name, each.mode, each.uid, each.gid, each.most, each.size, messages), note)
    opened = dict[int, int]()
    for file in found.opened:
        opened[file.number] = queue = mqueue.open_queue(file.name, file.flags & _KEPT)
        resources.callback(os.close, queue)
    return opened


def remove(names: Sequence[str], init_pid: int, proc: Path) -> None:
    """Remove queues, there or not."""
    if names:
        in_namespace("ipc", init_pid, lambda: mqueue.unlink(names), proc)
