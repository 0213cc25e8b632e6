"""Makes POSIX message queues in the IPC namespace of a container, and removes them again."""

import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from agent.container.network import in_namespace
from agent.container.rights import CHOWN, SETGID, SETUID, Rights
from agent.errors import ContainerError, RefusedError
from artifact.queues import PosixQueues
from contract.api.states import AgentReason
from linux.ipc import mqueue
from linux.ipc.mqueue import QueueState

_KEPT: Final = os.O_ACCMODE | os.O_NONBLOCK
"""Of the flags that a queue was opened with."""


def refuse_other_owners(found: PosixQueues, container: Rights) -> None:
    """Refuse queues that no process of a container could have made, nor given away: they count for their owner.

    Raises:
        RefusedError: ``images-wider``.
    """
    permitted = container.capabilities["CapPrm"]
    gives_away = permitted >> CHOWN & 1
    for each in found.queues:
        if each.uid not in container.users and not (gives_away or permitted >> SETUID & 1):
            raise _wider(each.name, f"user {each.uid}")
        if each.gid not in container.groups and not (gives_away or permitted >> SETGID & 1):
            raise _wider(each.name, f"group {each.gid}")


def _wider(name: str, whose: str) -> RefusedError:
    words = f"the POSIX message queue /{name} was of {whose}, who is none of the container's"
    return RefusedError(AgentReason.IMAGES_WIDER, words)


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
